/* SHA-256, through OpenSSL's EVP. */
#include "core/core.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

static void to_hexadecimal(const unsigned char digest[32], char out[65]) {
    for (size_t i = 0; i < 32; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void limn_sha256(const void *data, size_t size, char out_hex[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL);
    to_hexadecimal(digest, out_hex);
}

int limn_sha256_file(const char *path, char out_hex[65], limn_error *error) {
    FILE *stream = fopen(path, "rbe");
    if (!stream) return limn_fail(error, "%s: %s", path, strerror(errno));
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE] = {0}, chunk[65536];
    int failed = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) ? 0 : limn_fail(error, "cannot start SHA-256");
    size_t got;
    while (!failed && (got = fread(chunk, 1, sizeof chunk, stream)) > 0) EVP_DigestUpdate(context, chunk, got);
    if (!failed && ferror(stream)) failed = limn_fail(error, "%s: cannot read: %s", path, strerror(errno));
    if (!failed) {
        EVP_DigestFinal_ex(context, digest, NULL);
        to_hexadecimal(digest, out_hex);
    }
    EVP_MD_CTX_free(context);
    fclose(stream);
    return failed;
}
