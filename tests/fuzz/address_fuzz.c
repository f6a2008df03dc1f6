/* Addresses of lists and redirects, and lines of answers' heads. */
#include "tests/fuzz/fuzz.h"

#include "download/internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const SEEDS[] = {
    "http://user:word@www.example.com:8080/a b/\xC3\xA9.jpg?q=1#top",
    "https://[2001:db8::1]:443/x",
    "http://0x7f.1/%41%zz",
    "http://b\xC3\xBC"
    "cher.example./",
    "file://localhost/tmp/a%20b.jpg",
    "X-Robots-Tag: limn-download: noai, max-image-preview: large, otherbot: noindex\r\n",
    "tdm-reservation: 1\r\n",
};

static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= sizeof SEEDS / sizeof *SEEDS) return false;
    return limn_buffer_append(out, SEEDS[index], strlen(SEEDS[index]), NULL) == 0;
}

/* What may be requested: one line, and a host that every part of the program takes for the same. */
static const char *check_parts(const url_parts *parts) {
    url_parts again;
    const char *problem;
    for (const char *c = parts->url; *c; c++)
        if ((unsigned char)*c <= ' ') return "a space or control character in what is requested";
    if (!*parts->host || strlen(parts->host) > 255) return "a host's name is empty or too long";
    if (url_take_apart(parts->url, strlen(parts->url), &again, &problem)) return "its own address is refused";
    const bool same = !strcmp(again.host, parts->host) && again.https == parts->https;
    url_parts_free(&again);
    return same ? NULL : "its own address leads elsewhere";
}

static const char *target(const char *data, size_t size) {
    const char *problem = NULL, *complaint = NULL;
    url_parts parts;
    host_address address;
    header_forbids_learning(data, size);
    char *path = url_file_path(data, size);
    if (path && (path[0] != '/' || !url_has_scheme(data, size, "file"))) complaint = "a path that is none";
    free(path);
    if (complaint) return complaint;
    if (url_take_apart(data, size, &parts, &problem)) return problem && *problem ? NULL : "refused without a reason";
    if (host_is_literal(parts.host, &address)) host_address_is_private(&address);
    complaint = check_parts(&parts);
    url_parts_free(&parts);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
