/* SHA-256, through OpenSSL's EVP. */
#include "core/core.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

void limn_hexadecimal(const unsigned char *bytes, size_t size, char *out) {
    for (size_t i = 0; i < size; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    out[2 * size] = 0;
}

void limn_sha256(const void *data, size_t size, char out_hex[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL);
    limn_hexadecimal(digest, 32, out_hex);
}

struct limn_sha256_sum {
    EVP_MD_CTX *context;
};

limn_sha256_sum *limn_sha256_begin(limn_error *error) {
    limn_sha256_sum *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->context = EVP_MD_CTX_new();
    if (self->context && EVP_DigestInit_ex(self->context, EVP_sha256(), NULL)) return self;
    limn_fail(error, "cannot start SHA-256");
    limn_sha256_drop(self);
    return NULL;
}

void limn_sha256_add(limn_sha256_sum *self, const void *data, size_t size) {
    EVP_DigestUpdate(self->context, data, size);
}

void limn_sha256_drop(limn_sha256_sum *self) {
    if (!self) return;
    EVP_MD_CTX_free(self->context);
    free(self);
}

void limn_sha256_end(limn_sha256_sum *self, char out_hex[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    EVP_DigestFinal_ex(self->context, digest, NULL);
    limn_hexadecimal(digest, 32, out_hex);
    limn_sha256_drop(self);
}

int limn_sha256_file(const char *path, char out_hex[65], limn_error *error) {
    FILE *stream = fopen(path, "rbe");
    if (!stream) return limn_fail(error, "%s: %s", path, strerror(errno));
    limn_sha256_sum *sum = limn_sha256_begin(error);
    unsigned char chunk[65536];
    int failed = sum ? 0 : -1;
    size_t got;
    while (!failed && (got = fread(chunk, 1, sizeof chunk, stream)) > 0) limn_sha256_add(sum, chunk, got);
    if (!failed && ferror(stream)) failed = limn_fail(error, "%s: cannot read: %s", path, strerror(errno));
    if (!failed)
        limn_sha256_end(sum, out_hex);
    else
        limn_sha256_drop(sum);
    fclose(stream);
    return failed;
}
