/* make-normalize-tables: writes normalize_tables.c; see tables.h. */
#include "tokenizer/normalizer.h"
#include "tokenizer/tables/tables.h"
#include <stdlib.h>

static int write_flags(const unicode_data *data, FILE *out, limn_error *error) {
    uint16_t *values = limn_allocate(TABLES_CODE_POINTS, sizeof *values, error);
    if (!values) return -1;
    for (size_t c = 0; c < TABLES_CODE_POINTS; c++) values[c] = data->flags[c];
    int status = write_rows(values, "uint8_t", "unicode_flag", out, error);
    free(values);
    return status;
}

static int make(char **paths, limn_error *error) {
    const char *unidecode = paths[0], *unicode = paths[1], *entities = paths[2], *newer_emoji = paths[3], *output = paths[4];
    unicode_data data = {0};
    transliteration ascii = {0};
    limn_atomic_file file;
    int status = unicode_data_read(&data, unicode, error);
    if (status == 0) status = transliteration_make(&ascii, unidecode, &data, error);
    if (status == 0 && (status = limn_atomic_open(&file, output, error)) == 0) {
        fputs("/* Written by make-normalize-tables. */\n#include \"tokenizer/normalizer.h\"\n\n", file.stream);
        status = transliteration_write(&ascii, file.stream, error);
        if (status == 0) status = emoji_write(unicode, newer_emoji, &ascii, &data, file.stream, error);
        if (status == 0) status = entities_write(entities, &data, file.stream, error);
        if (status == 0) status = write_flags(&data, file.stream, error);
        if (status == 0) status = limn_atomic_commit(&file, error);
        limn_atomic_discard(&file);
    }
    transliteration_free(&ascii);
    unicode_data_free(&data);
    return status;
}

static int run(int argc, char **argv, limn_error *error) {
    if (argc != 6) return limn_fail_usage(error, "takes UNIDECODE_FOLDER UNICODE_FOLDER HTML_ENTITIES NEWER_EMOJI OUTPUT");
    return make(argv + 1, error);
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
