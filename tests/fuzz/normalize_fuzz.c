/* Captions to normalise, and lists of words for their hashtags. */
#include "tests/fuzz/fuzz.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

enum { GROWTH_MAX = 64 }; /* bytes that one byte may become: the longest name of an emoji, by a wide margin */

static text_normalizer *with_words, *without_words;

static bool prepare(void) {
    static const char words[] = "the 9\nred 8\napple 7\nskin 6\ntone 5\nmedium 4\ns 3\ndot 2\n";
    if (!with_words) with_words = text_normalizer_create(fuzz_file("words", words, sizeof words - 1), NULL);
    if (!without_words) without_words = text_normalizer_create(NULL, NULL);
    return with_words && without_words;
}

static bool make_seed(size_t index, limn_buffer *out) {
    static const char *const seeds[] = {
        "It's a #RedApple, 3.5mm & 1,234,567; 1/2 of <b>it</b> [12] http://a.example/x?y #skintone2024_x",
        "<person>, <person> and <PERSON>; then <person> 'quoted' \"twice\" a-b-c aaaa **** %%% [3] ",
        "&amp;amp;lt;b&gt; &eacute &NTILDE; &notit; &#233;&#x80;&#x110000; &CounterClockwiseContourIntegral; AT&T",
        "caf\xC3\x83\xC2\xA9 \xC3\xA2\xE2\x82\xAC\xC5\x93like this\xC3\xA2\xE2\x82\xAC\xEF\xBF\xBD "
        "fianc\xC3\x83\xC6\x92\xC3\x82\xC2\xA9"
        "e voil\xC3\x83 le \xC3\x90\xC5\x93\xC3\x90\xC2\xBE\xC3\x91 \xC2\x93so\xC2\x94",
        "\xE2\x88\x9A\xC2\xA9t\xE2\x88\x9A\xC2\xA9 \xC3\xAD\xC2\xA0\xC2\xBD\xC3\xAD\xC2\xB8\xC2\x8D \xC3\x83\xC6\x92\xC6\x92 "
        "\xD0\x93\xD1\x9E\xD0\xB2\xD0\x82\xD1\x9A",
        "\xF0\x9F\x91\xA9\xF0\x9F\x8F\xBD\xE2\x80\x8D\xF0\x9F\x9A\x92 1\xEF\xB8\x8F\xE2\x83\xA3 "
        "\xF0\x9F\x87\xAB\xF0\x9F\x87\xB7 "
        "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x90\xB6 \xE2\x9D\xA4\xEF\xB8\x8E \xF0\x9F\x8F\xBE\xE2\x80\x8D\xE2\x99\x82",
        "\xEF\xBC\xAC\xEF\xBC\xAF\xEF\xBC\xB5\xE3\x80\x80\xEF\xBE\x8A\xEF\xBE\x9B \xEF\xAC\x83 e\xCC\x81\xCC\x96 "
        "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB \x1B[36;44mblue\x1B[0m \xE2\x80\xA8\xE5\x8C\x97\xE4\xBA\xAC \xF0\x9D\x90\x81 "
        "\xC2\xBD",
        "xtokxdotxtokx a.b.xtokxquotextokxs <> <>> <a<b>c> ''s 'll`",
        "red 5\r\nap\xC3\xA9ple\t4\n\x0B red\xC2\xA0"
        "3\xE2\x80\xA8skin"};
    if (index >= sizeof seeds / sizeof seeds[0]) return false;
    return limn_buffer_append(out, seeds[index], strlen(seeds[index]), NULL) == 0;
}

/* One line of printable ASCII without capitals, led by a blank, blanks one at a time and none at the end. */
static const char *look_at(const limn_buffer *text, size_t size) {
    if (text->size == 0 || text->data[0] != ' ') return "it does not begin with a blank";
    if (text->size > 1 + GROWTH_MAX * size) return "it is too long";
    if (text->size > 1 && text->data[text->size - 1] == ' ') return "it ends with a blank";
    for (size_t i = 0; i < text->size; i++) {
        char c = text->data[i];
        if (c < ' ' || c > '~' || (c >= 'A' && c <= 'Z')) return "it has something else than printable ASCII in lower case";
        if (i && c == ' ' && text->data[i - 1] == ' ') return "it has two blanks";
    }
    return NULL;
}

/* A control character at the end is nothing, but keeps the text from the short way that plain ASCII goes. */
static const char *compare_ways(const char *data, size_t size, const limn_buffer *expected) {
    limn_buffer input = {0}, out = {0};
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)data[i] >= 0x80 || data[i] == '<')
            return NULL; /* œ at the end is mojibake before any other character */
    if (limn_buffer_append(&input, data, size, NULL) || limn_buffer_append(&input, "\x7F", 1, NULL)) return "no memory";
    bool same = text_normalize(with_words, input.data, input.size, &out, NULL) == 0 && out.size == expected->size &&
                memcmp(out.data, expected->data, out.size) == 0;
    limn_buffer_free(&input);
    limn_buffer_free(&out);
    return same ? NULL : "a control character makes a difference";
}

static const char *as_caption(const text_normalizer *normalizer, const char *data, size_t size) {
    limn_buffer first = {0}, second = {0};
    limn_error error = {0};
    const char *complaint = NULL;
    if (text_normalize(normalizer, data, size, &first, &error)) {
        complaint = fuzz_check_error(&error);
        return complaint ? complaint : "it is refused";
    }
    complaint = look_at(&first, size);
    if (!complaint && (text_normalize(normalizer, data, size, &second, &error) || first.size != second.size ||
                       memcmp(first.data, second.data, first.size) != 0))
        complaint = "the second time it gives something else";
    if (!complaint && normalizer == with_words) complaint = compare_ways(data, size, &first);
    limn_buffer_free(&first);
    limn_buffer_free(&second);
    return complaint;
}

static const char *as_lines(const char *data, size_t size) {
    char *text = NULL;
    size_t written = 0, lines = 0, expected = size && data[size - 1] != '\n';
    limn_error error = {0};
    FILE *out = open_memstream(&text, &written);
    if (!out) return "no stream in memory";
    int status = text_normalize_lines(with_words, fuzz_file("lines", data, size), out, &error);
    fclose(out);
    for (size_t i = 0; i < size; i++) expected += data[i] == '\n';
    for (size_t i = 0; i < written; i++) lines += text[i] == '\n';
    free(text);
    if (status) return "the lines are refused";
    return lines == expected ? NULL : "there are not as many lines as before";
}

static const char *as_words(const char *data, size_t size) {
    static const char caption[] = "#RedAppleSkinTone2024 #x_y";
    limn_buffer out = {0};
    limn_error error = {0};
    text_normalizer *made = text_normalizer_create(fuzz_file("list", data, size), &error);
    if (!made) return fuzz_check_error(&error);
    const char *complaint =
        text_normalize(made, caption, sizeof caption - 1, &out, &error) ? "a hashtag is refused" : look_at(&out, 64);
    limn_buffer_free(&out);
    text_normalizer_free(made);
    return complaint;
}

static const char *target(const char *data, size_t size) {
    if (!prepare()) return "no normaliser";
    const char *complaint = as_caption(with_words, data, size);
    if (!complaint) complaint = as_caption(without_words, data, size);
    /* the blocks that lines are read in cost more than all else: one input in eight */
    if (!complaint && size % 8 == 0) complaint = as_lines(data, size);
    return complaint ? complaint : as_words(data, size);
}

int main(int argc, char **argv) {
    limn_set_threads(1);
    int exit_code = fuzz_main(argc, argv, make_seed, target);
    text_normalizer_free(with_words);
    text_normalizer_free(without_words);
    return exit_code;
}
