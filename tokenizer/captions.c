/* Captions as a model takes them: normalised where it wants that, then encoded. */
#include "tokenizer/internal.h"

#include <limits.h>

int caption_encoder_load(caption_encoder *self, const char *directory, bool normalize, limn_error *error) {
    char words[PATH_MAX];
    *self = (caption_encoder){0};
    if (limn_path_join(words, sizeof words, directory, TEXT_NORMALIZER_WORDS, error) ||
        !(self->tokenizer = tokenizer_load(directory, error)))
        return -1;
    if (!normalize || (self->normalizer = text_normalizer_create(limn_file_exists(words) ? words : NULL, error))) return 0;
    caption_encoder_free(self);
    return -1;
}

int caption_encoder_encode(const caption_encoder *self, const char *text, size_t size, int32_t *ids, int32_t *mask,
                           size_t length, limn_error *error) {
    if (!self->normalizer) return tokenizer_encode_caption(self->tokenizer, text, size, ids, mask, length, error);
    limn_buffer normal = {0};
    int status = text_normalize(self->normalizer, text, size, &normal, error);
    if (status == 0) status = tokenizer_encode_caption(self->tokenizer, normal.data, normal.size, ids, mask, length, error);
    limn_buffer_free(&normal);
    return status;
}

int caption_encoder_encode_blank(const caption_encoder *self, int32_t *ids, int32_t *mask, size_t length, limn_error *error) {
    return tokenizer_encode_caption(self->tokenizer, "", 0, ids, mask, length, error);
}

void caption_encoder_free(caption_encoder *self) {
    tokenizer_free(self->tokenizer);
    text_normalizer_free(self->normalizer);
    *self = (caption_encoder){0};
}
