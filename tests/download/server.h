/* A web server on 127.0.0.1 that misbehaves in the ways seen in the wild, for the tests of limn-download.
 *
 * What an address answers is the first part of its path; what follows (/picture/7) is a number N:
 *   picture    a JPEG, 96x80, another one for each N          png         the same as PNG
 *   late       the JPEG after 20 milliseconds                 wrong-type  the JPEG called text/html
 *   redirect   302 to /picture/N                              loop        302 to itself
 *   hops       302 N times, then the JPEG                     slow-hop    302 to itself after a second
 *   away       302 to another name of this host               to-private  302 to http://127.0.0.1:1/
 *   to-file    302 to file:///etc/passwd                      to-nowhere  302 to http://
 *   missing    404                                            gone        410
 *   broken     500 always                                     flaky       500 the first time, then the JPEG
 *   busy       429 with Retry-After: 1 the first time         odd         304 with no body
 *   pause      the same, over the whole server                no-more     429 with Retry-After: 1 always
 *   never      no answer                                      slow        the JPEG, a byte every 100 milliseconds
 *   drip       the JPEG's head at once, then as slow          flood       headers without end, as fast as they go
 *   endless    a JPEG's beginning, then zeros without end     headers     headers without end, slowly
 *   long       more bytes announced than sent                 short       fewer bytes announced than there are
 *   vast       10^15 bytes announced                          reset       half of the JPEG, then a reset connection
 *   hangup     closes without a word                          empty       200 with no bytes
 *   cut        the first half of the JPEG                     noai        the JPEG, X-Robots-Tag: noai
 *   noindex    the JPEG, X-Robots-Tag: noarchive, NoImageIndex  otherbot  the JPEG, X-Robots-Tag: otherbot: noai
 *   ourbot     the JPEG, X-Robots-Tag: limn-download: noai    html        a page
 *   preview    the JPEG, X-Robots-Tag: max-image-preview: large, noai
 *   reserved   the JPEG, tdm-reservation: 1                   unreserved  the JPEG, tdm-reservation: 0
 *   gzip       the JPEG, compressed                           not-gzip    the JPEG, said to be compressed
 *   gzip-bomb  a JPEG's beginning and 64 MiB of zeros, compressed
 *   bomb       a PNG that declares 60000x60000 pixels         garbage     an answer that is not HTTP
 *
 * It is a proxy too: an address with a scheme and a host is answered as if it were its own. */
#ifndef LIMN_TESTS_DOWNLOAD_SERVER_H
#define LIMN_TESTS_DOWNLOAD_SERVER_H

#include <stddef.h>
#include <sys/types.h>

/* What the server has seen so far; shared with its process. */
typedef struct {
    size_t requests, connections; /* in all */
    size_t most_at_once;          /* connections */
    size_t during_pause;          /* requests after the 429 of "pause", before its second was over */
} server_counts;

typedef struct {
    pid_t process;
    int port;
    volatile server_counts *counts;
} test_server;

typedef enum { CERTIFICATE_GOOD, CERTIFICATE_UNKNOWN, CERTIFICATE_WRONG_HOST, CERTIFICATE_EXPIRED } server_certificate;

/* Starts the server in a process of its own, on a free port of 127.0.0.1; it ends with the test. */
test_server server_start(void);
/* The same with TLS and a new certificate of this kind, which is appended to the file of trusted ones unless it is the unknown.
 */
test_server server_start_tls(server_certificate kind, const char *trusted);
void server_stop(test_server *self);

#endif
