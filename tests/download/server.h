/* A web server on 127.0.0.1 that misbehaves in the ways seen in the wild, for the tests of limn-download.
 *
 * What an address answers is the first part of its path; what follows (/picture/7) is a number N:
 *   picture    a JPEG, 96x80, another one for each N          png         the same as PNG
 *   late       the JPEG after 20 milliseconds                 wrong-type  the JPEG called text/html
 *   redirect   302 to /picture/N                              loop        302 to itself
 *   to-file    302 to file:///etc/passwd                      to-nowhere  302 to http://
 *   missing    404                                            gone        410
 *   broken     500 always                                     flaky       500 the first time, then the JPEG
 *   busy       429 with Retry-After: 1 the first time         odd         304 with no body
 *   never      no answer                                      slow        the JPEG, a byte every 100 milliseconds
 *   endless    a JPEG's beginning, then zeros without end     headers     headers without end
 *   long       more bytes announced than sent                 short       fewer bytes announced than there are
 *   vast       10^15 bytes announced                          reset       half of the JPEG, then a reset connection
 *   hangup     closes without a word                          empty       200 with no bytes
 *   cut        the first half of the JPEG                     noai        the JPEG, X-Robots-Tag: noai
 *   noindex    the JPEG, X-Robots-Tag: noarchive, NoImageIndex  otherbot  the JPEG, X-Robots-Tag: otherbot: noai
 *   ourbot     the JPEG, X-Robots-Tag: limn-download: noai    html        a page
 *   bomb       a PNG that declares 60000x60000 pixels         garbage     an answer that is not HTTP */
#ifndef LIMN_TESTS_DOWNLOAD_SERVER_H
#define LIMN_TESTS_DOWNLOAD_SERVER_H

#include <sys/types.h>

typedef struct {
    pid_t process;
    int port;
} test_server;

/* Starts the server in a process of its own, on a free port; it ends with the test. */
test_server server_start(void);
void server_stop(test_server *self);

#endif
