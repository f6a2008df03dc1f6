/* Normalising captions: what DALL·E Mini's TextNormalizer gives, and what is hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "support.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

/* Frequent first; "c d" and "cd" are equally likely, since log 2 + log 3 = log 6. */
static const char words[] = "z 90\nc 80\nd 70\nred 60\napple 50\ncd 40\nblue 30\nskin 20\ntone 10\nmedium 9\nlight 8\n";

/* What the original (ftfy 6.3, emoji 2.16, Unidecode 1.4) gives with these words. */
/* clang-format off */
static const char *const rows[][2] = {
    /* mojibake: several encodings, twice over, with bytes lost, and text that only looks like it */
    {"sÃ³ as cafÃ©s", " so as cafes"},
    {"voilÃ le travail", " voila le travail"},
    {"â€œquotedâ€\xC2\x9D", " \" quoted \""},
    {"donâ€™t", " don't"},
    {"â€œ like this â€�", " \" like this"},
    {"РњРѕСЃРєРІР°", " rnjrdzsgjrierirdeg"},
    {"Ð\xC2\x9CÐ¾Ñ\xC2\x81ÐºÐ²Ð°", " moskva"},
    {"√©t√© √† Paris", " ete a paris"},
    {"Î‘Î¸Î®Î½Î±", " athena"},
    {"fiancÃƒÂ©e", " fiancee"},
    {"ÃƒÆ’Ã‚Â©", " e"},
    {"ðŸ˜€ grin", " grinning face, grin"},
    {"it\xC2\x92s \xC2\x93so\xC2\x94", " it's \" so \""},
    {"\xC2\x85 and", " and"},
    {"Ã©tÃ© 北京", " ete bei jing"},
    {"í\xC2\xA0½í¸\xC2\x8D", " smiling face with heart eyes"},
    {"Å\xC2\xA0koda", " a koda"},
    {"schÃ¶n und â‚¬5", " schon und eur5"},
    {"voilà", " voila"},
    {"Ñandú L’Île", " nandu l \" ile"},
    {"ÖVERSIKT über", " oversikt uber"},
    {"ЗДОРОВЬЕ", " zdorov \" e"},
    {"naïve Øresund – Ærø", " naive oresund, aero"},
    /* HTML entities */
    {"&lt;3", " <3"},
    {"&amp;amp;amp;lt;b&gt;x", " x"},
    {"&eacute &notit; &EACUTE; &NTILDE; &ntILDE;", " e, it, e n & ntilde"},
    {"&#233;&#xE9;&#x80;&#0;&#xD800;&#x110000;&#1;x", " eeeurx"},
    {"&#59;a&#x3b;b", " a, b"},
    {"<i>&eacute;</i>", " e"},
    {"AT&T R&D a &b; &", " at & t r & d a & b, &"},
    {"&CounterClockwiseContourIntegral; &ThickSpace;x", " x"},
    {"&hearts;&thetasym;", " heart suit, th"},
    /* ligatures, widths, terminal escapes, control characters, quotes, NFC */
    {"ﬁne ﬂow oﬃce ĳs", " fine flow office ijs"},
    {"ＬＯＵＤ\xE3\x80\x80ＮＯＩＳＥＳ", " loud noises"},
    {"ﾊﾛｰ", " haro"},
    {"\x1B[36;44mblue\x1B[0m", " blue"},
    {"‘single’ “double”", " \" single \" double \""},
    {"e\xCC\x81 a\xCC\x96\xCC\x81", " e a"},
    {"한", " han"},
    {"Å Ω", " a o"},
    /* emoji: joined, toned, flags, keycaps, variation selectors, newer than unicode-data */
    {"👩\xE2\x80\x8D🚒", " woman firefighter"},
    {"👩🏽\xE2\x80\x8D🚒", " woman firefighter medium skin tone"},
    {"👨\xE2\x80\x8D👩\xE2\x80\x8D👧\xE2\x80\x8D👦", " family man woman girl boy"},
    {"👨\xE2\x80\x8D🐶", " man, dog face"},
    {"🏴\xF3\xA0\x81\xA7\xF3\xA0\x81\xA2\xF3\xA0\x81\xA5\xF3\xA0\x81\xAE\xF3\xA0\x81\xA7\xF3\xA0\x81\xBF", " england"},
    {"🇫🇷🇩🇪🇫", " france, germany"},
    {"1\xEF\xB8\x8F⃣2⃣3", " keycap 1, keycap 2, 3"},
    {"❤ ❤\xEF\xB8\x8F ❤\xEF\xB8\x8E", " red heart, red heart, red heart"},
    {"🏽 alone", " medium skin tone, alone"},
    {"\xF0\x9F\xAB\xAF \xF0\x9F\xAB\xA9", " fight cloud, face with bags under eyes"},
    {"👯🏽\xE2\x80\x8D♂\xEF\xB8\x8F", " men with bunny ears medium skin tone"},
    {"©\xEF\xB8\x8F®™", " copyright, registered, trade mark"},
    /* to ASCII */
    {"Łódź Ærø Straße ñ", " lodz aero strasse n"},
    {"北京", " bei jing"},
    {"日本語 すし チーズ", " ri ben yu sushi chi zu"},
    {"Привет объект Єва", " privet ob \" ekt ieva"},
    {"שלום", " shlvm"},
    {"مرحبا", " mrhb"},
    {"नमस्ते", " nmste"},
    {"𝐁𝐨𝐥𝐝 ① ⓐ ㍿", " bold 1 a inc"},
    {"½ 3½ №5 ™", " 1/2 3 1/2 no, 5, trade mark"},
    {"₹5 ₽6 ₿7", " rs5 r6 btc7"},
    {"♔♥", " white king, heart suit"},
    /* people */
    {"<person>, <person> and <person> smile", " people smile"},
    {"<PERSON>and<PERSON>andand, <person>,", " people"},
    /* Wikipedia's marks and tags */
    {" [12] text [3] ", " text"},
    {"[a] b [1] c", " a, b, 1, c"},
    {"a <b>bold</b> < 5 and > 3", " a bold 3"},
    {"<> <>> <a<b>c>", " <> <a c>"},
    {"<unclosed", " <unclosed"},
    /* addresses */
    {"see http://a.b/c?d=e now", " see now"},
    {"xhttps: http", " x http"},
    {"HTTP://A", " "},
    /* numbers, dates, signs */
    {"1,234,567 1,2,3 1,2345 12,345.67", " 1234567 1, 2, 3 12345 12345.67"},
    {"3.5 a.b.c e.g. .5 5.", " 3.5 a.b, c e.g, 5 5"},
    {"1/2 1/2/3 a/b", " 1/2 1/2, 3 a, b"},
    {"10% $5 a&b *x*", " 10 % $ 5 a & b * x *"},
    /* quotes */
    {"it's they'll we've you're I'd I'm don't rock'n'roll 'sun' 's 'll", " it's they'll we've you're i'd i'm don't rock \" n \" roll \" sun \" 's 'll"},
    {"''s 'tis '", " \" 's \" tis \""},
    {"\"a\" `b` 'c' \"\"\"", " \" a \" b \" c \""},
    /* hyphens */
    {"a-b a-b-c - x -y z- a--b", " a b a b, c, x, y z, a, b"},
    /* hashtags */
    {"#redapple #blue_sky #skintone2024 #a.b #it's #_x_ ## #", " red apple blue s k y skin tone 2024 a x t o k x d o t x t o k x b i t x t o k x q u o t e x t o k x s x"},
    {"#1984 #cat2dog #medium-light", " 1984 c a t 2 d o g medium light"},
    /* repetitions and what is left at the ends */
    {"sooo soooo 1111 VIII !!!! $$$$ a,,,,b ----", " sooo so 1111 viii, $ $ $ $ a, b"},
    {"wow!!!?? ...  , ,", " wow"},
    {", ,a, ,", " a"},
    {"\",\"", " \", \""},
    {",", " "},
    {"\"", " \""},
    {"   ", " "},
    /* the original's own words in between */
    {"xtokxdotxtokx axtokxquotextokxs", " . a's"},
    /* equally likely splits, format characters, other line breaks */
    {"#cd #redapplecd", " c d red apple c d"},
    {"a\xC2\xAD" "b \xE2\x80\x8E\xE2\x80\x8F c", " ab c"},
    {"\xE2\x80\xA8x\xE2\x80\xA9y\x0Bz", " x yz"},
    {"#été #北京", " e t e b e i jing"},
};
/* clang-format on */

static char folder[64], words_path[128];
static text_normalizer *normalizer;

static int setup(void **state) {
    (void)state;
    limn_error error = {0};
    limn_set_log_level(LIMN_LOG_WARNING);
    make_folder(folder);
    write_file(folder, "words", words, sizeof words - 1);
    snprintf(words_path, sizeof words_path, "%s/words", folder);
    normalizer = text_normalizer_create(words_path, &error);
    if (!normalizer) fail_msg("%s", error.message);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    text_normalizer_free(normalizer);
    remove_folder(folder);
    return 0;
}

/* The normalised text; the caller frees it. */
static char *normalized(const char *text, size_t size, size_t *out_size) {
    limn_buffer out = {0};
    limn_error error = {0};
    if (text_normalize(normalizer, text, size, &out, &error)) fail_msg("%s", error.message);
    if (out_size) *out_size = out.size;
    assert_int_equal(out.data[out.size], 0);
    return out.data;
}

static void check(const char *text, size_t size, const char *expected) {
    char *got = normalized(text, size, NULL);
    if (strcmp(got, expected) != 0) fail_msg("\"%s\" gives \"%s\", expected \"%s\"", text, got, expected);
    free(got);
}

static void test_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) check(rows[i][0], strlen(rows[i][0]), rows[i][1]);
}

/* Python's errors="replace" first; U+FFFD then goes. Zeros are control characters. */
static void test_bytes_that_are_not_utf8(void **state) {
    (void)state;
    check("a\xFF\xFE"
          "b",
          4, " ab");
    check("\xED\xA0\x80x", 4, " x"); /* a surrogate */
    check("\xF0\x9F\x98", 3, " ");   /* cut off */
    check("\xC0\x80 nul", 6, " nul");
    check("caf\xE9 \xE2\x82", 7, " caf");
    check("a\0b\0", 4, " ab");
    check("\xF4\x90\x80\x80z", 5, " z"); /* beyond U+10FFFF */
    check("\xEF\xBB\xBF"
          "bom",
          6, " bom");
    check("", 0, " ");
}

/* Appending keeps what is there, and an error leaves it. */
static void test_appending(void **state) {
    (void)state;
    limn_buffer out = {0};
    limn_error error = {0};
    assert_int_equal(limn_buffer_append(&out, "kept", 4, NULL), 0);
    assert_int_equal(text_normalize(normalizer, "A", 1, &out, &error), 0);
    assert_int_equal(text_normalize(normalizer, "\xC3\x89", 2, &out, &error), 0);
    assert_string_equal(out.data, "kept a e");
    char *text = calloc(TOKENIZER_MAX_TEXT + 1, 1);
    assert_int_equal(text_normalize(normalizer, text, TOKENIZER_MAX_TEXT + 1, &out, &error), -1);
    assert_non_null(strstr(error.message, "is no caption"));
    assert_string_equal(out.data, "kept a e");
    free(text);
    limn_buffer_free(&out);
}

/* ---------------------------------------------------------------- people */

static void test_a_person_is_the_same_every_time(void **state) {
    (void)state;
    size_t counts[3] = {0}, apart = 0;
    for (int i = 0; i < 20000; i++) {
        static const char *const expected[] = {"a person", "someone", "somebody"};
        char text[64], first[32], second[32];
        snprintf(text, sizeof text, "<person> %d <PERSON>", i);
        char *got = normalized(text, strlen(text), NULL), *again = normalized(text, strlen(text), NULL);
        assert_string_equal(got, again);
        char number[16], *place;
        snprintf(number, sizeof number, " %d ", i);
        assert_non_null(place = strstr(got, number));
        snprintf(first, sizeof first, "%.*s", (int)(place - got - 1), got + 1);
        snprintf(second, sizeof second, "%s", place + strlen(number));
        bool known = false;
        for (size_t k = 0; k < 3; k++) {
            counts[k] += strcmp(first, expected[k]) == 0;
            known = known || strcmp(first, expected[k]) == 0;
        }
        assert_true(known);
        apart += strcmp(first, second) != 0;
        free(got);
        free(again);
    }
    /* 67.9 %, 29.2 % and 2.9 %; the second is drawn for itself */
    assert_in_range(counts[0], 13300, 13860);
    assert_in_range(counts[1], 5570, 6090);
    assert_in_range(counts[2], 490, 690);
    assert_in_range(apart, 8000, 9800);
}

/* ---------------------------------------------------------------- long and deep */

/* A piece over and over. */
static char *repeated(const char *before, const char *piece, size_t times, size_t *out_size) {
    size_t head = strlen(before), length = strlen(piece);
    char *text = malloc(head + length * times + 1);
    assert_non_null(text);
    memcpy(text, before, head);
    for (size_t i = 0; i < times; i++) memcpy(text + head + i * length, piece, length);
    *out_size = head + length * times;
    text[*out_size] = '\0';
    return text;
}

/* What follows from the rules for any text: one line of printable ASCII without capitals, blanks one at a time. */
static void check_form(const char *text, size_t size) {
    assert_true(size >= 1);
    assert_int_equal(text[0], ' ');
    for (size_t i = 0; i < size; i++) {
        assert_in_range((unsigned char)text[i], ' ', '~');
        assert_false(text[i] >= 'A' && text[i] <= 'Z');
        assert_false(i && text[i] == ' ' && text[i - 1] == ' ');
    }
    assert_true(size == 1 || text[size - 1] != ' ');
}

/* The first of them ten megabytes long, the others two. */
static void test_long_texts(void **state) {
    (void)state;
    static const char *const pieces[][2] = {{"", "a"},
                                            {"#", "redapple"},
                                            {"&", "amp;"},
                                            {"\xC3\x83", "\xC6\x92"},
                                            {"", " "},
                                            {"#", "a"},
                                            {"", "#a"},
                                            {"#", "1"},
                                            {"", "<"},
                                            {"", "<person>"},
                                            {"<person>", "and"},
                                            {"", "<person>, a"},
                                            {"", "[1]"},
                                            {"", "http"},
                                            {"&#", "1"},
                                            {"", "&notit"},
                                            {"", "&CounterClockwiseContourIntegra"},
                                            {"", "a.b"},
                                            {"", "'s "},
                                            {"", "1/2"},
                                            {"", "%"},
                                            {"\x1B[", "1"},
                                            {"", "\x1B[1"},
                                            {"", "\n"},
                                            {"", "\xC3\x83\xE2\x80\x9A\xC3\x82"},
                                            {"", "\xE2\x80\x8D"},
                                            {"a", "\xCC\x81\xCC\x96"},
                                            {"", "\xF0\x9F\x91\xA8\xE2\x80\x8D"},
                                            {"", "\xE2\x80\x8D\xF0\x9F\x8F\xBB"},
                                            {"", "\xEF\xBF\xA3"},
                                            {"", "\xFF"}};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t size, got_size;
        char *text = repeated(pieces[i][0], pieces[i][1], (i < 4 ? 10000000 : 2000000) / strlen(pieces[i][1]), &size);
        char *got = normalized(text, size, &got_size);
        check_form(got, got_size);
        free(got);
        free(text);
    }
}

/* Each round of repairs takes one layer off: all of them in a text of usual length, and in a long one until the budget ends. */
static void test_nested_entities_and_mojibake(void **state) {
    (void)state;
    size_t size;
    char *text = repeated("&", "amp;", 900, &size);
    check(text, size, " &");
    free(text);
    text = repeated("\xC3\x83", "\xC6\x92", 3000, &size);
    check(text, size, " a");
    free(text);
    text = repeated("caf\xC3\x83\xC2\xA9 &", "amp;", 900, &size);
    check(text, size, " cafe &");
    free(text);
}

/* ---------------------------------------------------------------- lists of words */

static void test_word_lists(void **state) {
    (void)state;
    static const struct {
        const char *text, *complaint;
    } lists[] = {{"", "empty"},
                 {"red 1\n\nblue 2\n", "line 2 has no word"},
                 {"red 1\n \t\r\nblue 2\n", "line 2 has no word"},
                 {"red 1\nbl\xFFue 2\n", "not UTF-8"},
                 {"red\rapple\xE2\x80\xA8  blue\x1Esky\xC2\xA0 5", NULL}, /* Python's line ends and blanks */
                 {"red\nRED 5\nr\xC3\xA9"
                  "d\napple\n\xEF\xBB\xBF"
                  "blue\nblue\nsky",
                  NULL}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        limn_error error = {0};
        limn_buffer out = {0};
        write_file(folder, "list", lists[i].text, strlen(lists[i].text));
        char path[128];
        snprintf(path, sizeof path, "%s/list", folder);
        text_normalizer *made = text_normalizer_create(path, &error);
        if (lists[i].complaint) {
            if (made || !strstr(error.message, lists[i].complaint) || !strstr(error.message, path))
                fail_msg("list %zu: %s", i, error.message);
            continue;
        }
        if (!made) fail_msg("list %zu: %s", i, error.message);
        assert_int_equal(text_normalize(made, "#RedAppleBlueSky", 16, &out, &error), 0);
        assert_string_equal(out.data, " red apple blue sky");
        text_normalizer_free(made);
        limn_buffer_free(&out);
    }
    limn_error error = {0};
    assert_null(text_normalizer_create("/nowhere/words", &error));
    assert_non_null(strstr(error.message, "/nowhere/words"));
}

static void test_no_words(void **state) {
    (void)state;
    limn_buffer out = {0};
    text_normalizer *made = text_normalizer_create(NULL, NULL);
    assert_non_null(made);
    assert_int_equal(text_normalize(made, "#red_2024x #1984", 16, &out, NULL), 0);
    assert_string_equal(out.data, " r e d 2024 x 1984");
    text_normalizer_free(made);
    limn_buffer_free(&out);
}

/* Of a word that comes twice the last place counts: "redapple" is then dearer than its parts. Long words are left out. */
static void test_large_list(void **state) {
    (void)state;
    limn_buffer list = {0}, out = {0};
    limn_error error = {0};
    assert_int_equal(limn_buffer_printf(&list, NULL, "redapple\nred\napple\n"), 0);
    for (int i = 0; i < 300000; i++) assert_int_equal(limn_buffer_printf(&list, NULL, "word%d %d\n", i, i), 0);
    assert_int_equal(limn_buffer_printf(&list, NULL, "redapple\n%0200d\n", 0), 0);
    write_file(folder, "list", list.data, list.size);
    char path[128];
    snprintf(path, sizeof path, "%s/list", folder);
    text_normalizer *made = text_normalizer_create(path, &error);
    if (!made) fail_msg("%s", error.message);
    assert_int_equal(text_normalize(made, "#redappleword299999red", 22, &out, &error), 0);
    assert_string_equal(out.data, " red apple word299999 red");
    text_normalizer_free(made);
    limn_buffer_free(&out);
    limn_buffer_free(&list);
}

/* ---------------------------------------------------------------- many texts, many threads */

/* Random ASCII with what the rules are about. */
static size_t ascii_text(char out[200], uint64_t seed) {
    static const char *const pieces[] = {"a",   "Red", "apple", " ",    "  ", "\t", "\r\n", ".",    ",",   "'",     "'s ",
                                         "'ll", "\"",  "-",     "/",    "1",  "23", "456",  "#",    "_",   "\\",    "& ",
                                         "%",   "$",   "*",     "aaaa", "!!", "?",  "[1]",  "http", "://", "xtokx", "dot",
                                         "(",   ")",   "~",     "^",    "@",  "`",  "{",    "|"};
    size_t size = 0, count = (size_t)limn_random_below(seed, 1, 0, 30);
    for (size_t i = 0; i < count; i++) {
        const char *piece = pieces[limn_random_below(seed, 2, i, sizeof pieces / sizeof pieces[0])];
        memcpy(out + size, piece, strlen(piece));
        size += strlen(piece);
    }
    return size;
}

/* A control character sends a text the long way, and is nothing there. */
static void test_the_short_way_is_the_long_way(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 20000; seed++) {
        char text[201];
        size_t size = ascii_text(text, seed);
        char *short_way = normalized(text, size, NULL);
        text[size] = 0x7F;
        char *long_way = normalized(text, size + 1, NULL);
        if (strcmp(short_way, long_way) != 0) fail_msg("\"%.*s\": \"%s\" and \"%s\"", (int)size, text, short_way, long_way);
        check_form(short_way, strlen(short_way));
        free(short_way);
        free(long_way);
    }
}

/* Lines by one thread and by several, and one by one from all threads at once. */
static void test_threads(void **state) {
    (void)state;
    enum { LINES = 40000 };
    limn_buffer input = {0}, expected = {0};
    for (size_t i = 0; i < LINES; i++) {
        const char *text = rows[i % (sizeof rows / sizeof rows[0])][0];
        assert_int_equal(limn_buffer_printf(&input, NULL, "%zu %.*s\r\n", i, (int)strcspn(text, "\r\n"), text), 0);
    }
    write_file(folder, "lines", input.data, input.size);
    for (char *line = input.data, *end; (end = strstr(line, "\r\n")); line = end + 2) {
        assert_int_equal(text_normalize(normalizer, line, (size_t)(end - line), &expected, NULL), 0);
        assert_int_equal(limn_buffer_append(&expected, "\n", 1, NULL), 0);
    }
    char path[128];
    snprintf(path, sizeof path, "%s/lines", folder);
    for (size_t threads = 1; threads <= 4; threads += 3) {
        limn_error error = {0};
        char *text = NULL;
        size_t size;
        limn_set_threads(threads);
        FILE *out = open_memstream(&text, &size);
        if (text_normalize_lines(normalizer, path, out, &error)) fail_msg("%s", error.message);
        fclose(out);
        assert_int_equal(size, expected.size);
        assert_memory_equal(text, expected.data, size);
        free(text);
    }
    int wrong = 0;
#pragma omp parallel for num_threads(4) reduction(+ : wrong)
    for (size_t i = 0; i < LINES; i++) {
        const char *const *row = rows[i % (sizeof rows / sizeof rows[0])];
        limn_buffer out = {0};
        wrong += text_normalize(normalizer, row[0], strlen(row[0]), &out, NULL) || strcmp(out.data, row[1]) != 0;
        limn_buffer_free(&out);
    }
    assert_int_equal(wrong, 0);
    limn_buffer_free(&input);
    limn_buffer_free(&expected);
}

static void test_lines_that_fail(void **state) {
    (void)state;
    limn_error error = {0};
    char path[128], *text = malloc(TOKENIZER_MAX_TEXT + 8), *written = NULL;
    size_t size;
    memcpy(text, "One\n", 4);
    memset(text + 4, 'a', TOKENIZER_MAX_TEXT + 4);
    write_file(folder, "lines", text, TOKENIZER_MAX_TEXT + 8);
    snprintf(path, sizeof path, "%s/lines", folder);
    FILE *out = open_memstream(&written, &size);
    assert_int_equal(text_normalize_lines(normalizer, path, out, &error), -1);
    fclose(out);
    assert_string_equal(written, " one\n");
    assert_non_null(strstr(error.message, "line 2: "));
    free(written);
    free(text);
    out = fopen("/dev/full", "w");
    write_file(folder, "lines", "a\n", 2);
    assert_int_equal(text_normalize_lines(normalizer, path, out, &error), -1);
    assert_non_null(strstr(error.message, "cannot be written"));
    fclose(out);
    snprintf(path, sizeof path, "%s/absent", folder);
    assert_int_equal(text_normalize_lines(normalizer, path, stdout, &error), -1);
    assert_non_null(strstr(error.message, path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),       cmocka_unit_test(test_bytes_that_are_not_utf8),
        cmocka_unit_test(test_appending),  cmocka_unit_test(test_a_person_is_the_same_every_time),
        cmocka_unit_test(test_long_texts), cmocka_unit_test(test_nested_entities_and_mojibake),
        cmocka_unit_test(test_word_lists), cmocka_unit_test(test_no_words),
        cmocka_unit_test(test_large_list), cmocka_unit_test(test_the_short_way_is_the_long_way),
        cmocka_unit_test(test_threads),    cmocka_unit_test(test_lines_that_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
