/* Addresses: which are private, what a list's text becomes before it is requested, and which host it leads to. */
#include "download/internal.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <locale.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct {
    uint32_t network;
    unsigned bits;
} ipv4_block;

/* IANA's IPv4 special-purpose registry, what is not globally reachable, with multicast. */
static const ipv4_block PRIVATE_IPV4[] = {
    {0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},  {0xA9FE0000, 16},
    {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24}, {0xC0A80000, 16}, {0xC6120000, 15},
    {0xC6336400, 24}, {0xCB007100, 24}, {0xE0000000, 4},  {0xF0000000, 4},
};

static bool ipv4_is_private(uint32_t address) {
    for (size_t i = 0; i < sizeof PRIVATE_IPV4 / sizeof *PRIVATE_IPV4; i++)
        if ((address ^ PRIVATE_IPV4[i].network) >> (32 - PRIVATE_IPV4[i].bits) == 0) return true;
    return false;
}

static uint32_t read_ipv4(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool ipv6_is_private(const uint8_t a[16]) {
    static const uint8_t zeros[12], mapped[12] = {[10] = 0xFF, [11] = 0xFF}, nat64[12] = {0, 0x64, 0xFF, 0x9B};
    if (!memcmp(a, zeros, 12)) return true; /* unspecified, loopback, and the long gone IPv4-compatible form */
    if (!memcmp(a, mapped, 12) || !memcmp(a, nat64, 12)) return ipv4_is_private(read_ipv4(a + 12));
    if (a[0] == 0x20 && a[1] == 0x02) return ipv4_is_private(read_ipv4(a + 2)); /* 6to4 */
    return (a[0] & 0xE0) != 0x20 ||                                             /* all that is global is in 2000::/3 */
           (a[0] == 0x20 && a[1] == 0x01 && (a[2] & 0xFE) == 0) ||              /* 2001::/23: Teredo, benchmarking, … */
           (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0D && a[3] == 0xB8);      /* documentation */
}

bool address_is_private(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, address, sizeof ipv4);
        return ipv4_is_private(ntohl(ipv4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 ipv6;
        memcpy(&ipv6, address, sizeof ipv6);
        return ipv6_is_private(ipv6.sin6_addr.s6_addr);
    }
    return true;
}

bool host_address_is_private(const host_address *address) {
    return address->family == AF_INET ? ipv4_is_private(read_ipv4(address->bytes)) : ipv6_is_private(address->bytes);
}

bool host_is_literal(const char *host, host_address *out) {
    char text[INET6_ADDRSTRLEN + 1] = "";
    const size_t size = strlen(host);
    memset(out, 0, sizeof *out);
    if (size > 2 && host[0] == '[' && host[size - 1] == ']' && size - 2 < sizeof text) {
        memcpy(text, host + 1, size - 2);
        out->family = AF_INET6;
        return inet_pton(AF_INET6, text, out->bytes) == 1;
    }
    out->family = AF_INET;
    return inet_pton(AF_INET, host, out->bytes) == 1;
}

bool url_has_scheme(const char *url, size_t size, const char *scheme) {
    const size_t length = strlen(scheme);
    return size > length + 2 && strncasecmp(url, scheme, length) == 0 && memcmp(url + length, "://", 3) == 0;
}

char *url_clean(const char *url, size_t size) {
    char *clean = malloc(3 * size + 1), *out = clean;
    if (!clean) return NULL;
    const char *host = memmem(url, size, "://", 3);
    const char *path = host ? host + 3 : url, *end = url + size;
    while (path < end && *path != '/' && *path != '?' && *path != '#') path++;
    for (const char *in = url; in < end; in++) {
        const unsigned char c = (unsigned char)*in;
        if (in >= path && (c <= ' ' || c >= 0x7F)) {
            static const char digits[] = "0123456789ABCDEF";
            *out++ = '%';
            *out++ = digits[c >> 4];
            *out++ = digits[c & 15];
        } else {
            *out++ = (char)c;
        }
    }
    *out = 0;
    return clean;
}

void url_parts_free(url_parts *self) {
    free(self->url);
    free(self->host);
    memset(self, 0, sizeof *self);
}

/* Lower case, without the dot that may end a name. */
static char *copy_host(const char *host) {
    size_t size = strlen(host);
    if (size > 1 && host[size - 1] == '.') size--;
    char *copy = strndup(host, size);
    for (size_t i = 0; copy && i < size; i++)
        if (copy[i] >= 'A' && copy[i] <= 'Z') copy[i] = (char)(copy[i] - 'A' + 'a');
    return copy;
}

/* The host in ASCII. libcurl's libidn2 takes text to be in the thread's locale, whatever that is: for this call it is UTF-8. */
static CURLUcode get_host(CURLU *parsed, char **host) {
    CURLUcode code = curl_url_get(parsed, CURLUPART_HOST, host, 0);
    if (code) return code;
    const char *c = *host;
    while (*c && (unsigned char)*c < 0x80) c++;
    if (!*c) return CURLUE_OK;
    curl_free(*host);
    *host = NULL;
    const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    const locale_t before = uselocale(utf8);
    code = curl_url_get(parsed, CURLUPART_HOST, host, CURLU_PUNYCODE);
    uselocale(before);
    if (utf8) freelocale(utf8);
    return code ? CURLUE_BAD_HOSTNAME : CURLUE_OK; /* it says out of memory for every name that has no such form */
}

static bool is_name(const char *host) {
    for (const char *c = host; *c; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7F) return false;
    return *host && strlen(host) <= 255;
}

int url_take_apart(const char *url, size_t size, url_parts *out, const char **problem) {
    char *clean = url_clean(url, size), *scheme = NULL, *host = NULL, *whole = NULL;
    CURLU *parsed = curl_url();
    host_address literal;
    memset(out, 0, sizeof *out);
    CURLUcode code = clean && parsed ? curl_url_set(parsed, CURLUPART_URL, clean, 0) : CURLUE_OUT_OF_MEMORY;
    if (!code) code = curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0);
    if (!code && strcmp(scheme, "http") && strcmp(scheme, "https")) code = CURLUE_UNSUPPORTED_SCHEME;
    if (!code) code = get_host(parsed, &host);
    if (!code && (!is_name(host) || (host[0] == '[' && !host_is_literal(host, &literal)))) code = CURLUE_BAD_HOSTNAME;
    if (!code) code = curl_url_set(parsed, CURLUPART_HOST, host, 0);
    if (!code) code = curl_url_get(parsed, CURLUPART_URL, &whole, 0);
    if (!code) {
        out->https = scheme[4] == 's';
        out->url = strdup(whole);
        out->host = copy_host(host);
        if (!out->url || !out->host) code = CURLUE_OUT_OF_MEMORY;
    }
    if (code) {
        url_parts_free(out);
        *problem = code == CURLUE_OUT_OF_MEMORY ? NULL : curl_url_strerror(code);
    }
    curl_free(whole);
    curl_free(host);
    curl_free(scheme);
    curl_url_cleanup(parsed);
    free(clean);
    return code ? -1 : 0;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *url_file_path(const char *url, size_t size) {
    if (!url_has_scheme(url, size, "file")) return NULL;
    url += 7, size -= 7;
    if (size > 9 && !strncasecmp(url, "localhost", 9)) url += 9, size -= 9;
    if (size < 2 || url[0] != '/') return NULL;
    char *path = malloc(size + 1), *out = path;
    if (!path) return NULL;
    for (size_t i = 0; i < size; i++) {
        const int high = url[i] == '%' && i + 2 < size ? hex_digit(url[i + 1]) : -1;
        const int low = high >= 0 ? hex_digit(url[i + 2]) : -1;
        *out = url[i];
        if (low >= 0) {
            *out = (char)(high << 4 | low);
            i += 2;
        }
        if (*out++ == 0) {
            free(path);
            return NULL;
        }
    }
    *out = 0;
    return path;
}
