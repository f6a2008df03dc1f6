/* DALL·E Mini's substitutions, on ASCII in lower case. The original writes them as regular expressions that run one after
 * another; each pass here is one of them, or several that cannot get into each other's way. A pass is left out where the text
 * has none of the characters that it is about. */
#include "tokenizer/normalizer.h"
#include <stdlib.h>
#include <string.h>

/* The original hides the dots of numbers, the quotes of "it's" and the slashes of dates from the punctuation behind words. What
 * is in between sees these words, and so can the reader of a hashtag. */
#define HIDDEN "xtokx"
static const char hidden_dot[] = HIDDEN "dot" HIDDEN, hidden_quote[] = HIDDEN "quote" HIDDEN,
                  hidden_slash[] = HIDDEN "slash" HIDDEN;

enum { HIDDEN_LENGTH = 15 }; /* of the longest */

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
}
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || is_digit(c) || c == '_';
}

typedef struct {
    const char *data;
    size_t size;
} span;

static bool stands_at(span text, size_t at, const char *wanted) {
    size_t length = strlen(wanted);
    return text.size - at >= length && memcmp(text.data + at, wanted, length) == 0;
}

/* A pass reads the text, writes to `out`, where there is room, and returns how much it wrote. */
typedef size_t (*pass)(span text, char *out);

/* ---------------------------------------------------------------- people */

static const char person[] = "<person>";
enum { PERSON_LENGTH = sizeof person - 1 };

static size_t skip_separators(span text, size_t at) {
    while (at < text.size && (text.data[at] == ',' || is_space(text.data[at]))) at++;
    return at;
}

/* After a <person> at `at`: where the run of them ends that commas, blanks and "and" join. */
static size_t end_of_people(span text, size_t at) {
    for (;;) {
        size_t next = skip_separators(text, at);
        while (stands_at(text, next, "and")) next += 3;
        next = skip_separators(text, next);
        if (!stands_at(text, next, person)) return at;
        at = next + PERSON_LENGTH;
    }
}

/* What one becomes: as often as the words occur in Wikipedia, which is what the original draws by. */
static const char *one_person(uint64_t seed, uint64_t index) {
    enum { A_PERSON = 282265, SOMEONE = 121194, SOMEBODY = 12219 };
    uint64_t drawn = limn_random_below(seed, limn_random_stream("person"), index, A_PERSON + SOMEONE + SOMEBODY);
    return drawn < A_PERSON ? " a person " : drawn < A_PERSON + SOMEONE ? " someone " : " somebody ";
}

static size_t name_people(span text, uint64_t seed, char *out) {
    size_t written = 0;
    uint64_t index = 0;
    for (size_t i = 0; i < text.size;) {
        if (text.data[i] != '<' || !stands_at(text, i, person)) {
            out[written++] = text.data[i++];
            continue;
        }
        size_t end = end_of_people(text, i + PERSON_LENGTH);
        const char *words = end > i + PERSON_LENGTH ? " people " : one_person(seed, index++);
        memcpy(out + written, words, strlen(words));
        written += strlen(words);
        i = end;
    }
    return written;
}

/* ---------------------------------------------------------------- what is taken out */

/* "[12]" as the first or the last thing: references of Wikipedia. */
static span without_references(span text) {
    size_t start = 0, digits;
    while (start < text.size && is_space(text.data[start])) start++;
    for (digits = start + 1; digits < text.size && is_digit(text.data[digits]);) digits++;
    if (start < text.size && text.data[start] == '[' && digits > start + 1 && digits < text.size && text.data[digits] == ']')
        text = (span){text.data + digits + 1, text.size - digits - 1};
    size_t end = text.size;
    while (end && is_space(text.data[end - 1])) end--;
    if (!end || text.data[end - 1] != ']') return text;
    for (digits = end - 1; digits && is_digit(text.data[digits - 1]);) digits--;
    if (digits < end - 1 && digits && text.data[digits - 1] == '[') text.size = digits - 1;
    return text;
}

/* The end of the tag that begins at `at`: the first ">" with something, but no "<", between; `at` when there is none. */
static size_t end_of_tag(span text, size_t at) {
    size_t i = at + 1;
    if (i < text.size && text.data[i] != '<') i++;
    while (i < text.size && text.data[i] != '>' && text.data[i] != '<') i++;
    return i > at + 1 && i < text.size && text.data[i] == '>' ? i + 1 : at;
}

static size_t remove_tags(span text, char *out) {
    size_t written = 0;
    for (size_t i = 0; i < text.size;) {
        size_t end = text.data[i] == '<' ? end_of_tag(text, i) : i;
        out[written++] = end > i ? ' ' : text.data[i];
        i = end > i ? end : i + 1;
    }
    return written;
}

/* From "http" to the next blank. */
static size_t remove_addresses(span text, char *out) {
    size_t written = 0;
    for (size_t i = 0; i < text.size;) {
        if (text.data[i] == 'h' && stands_at(text, i, "http") && i + 4 < text.size && !is_space(text.data[i + 4]))
            while (i < text.size && !is_space(text.data[i])) i++;
        else
            out[written++] = text.data[i++];
    }
    return written;
}

/* The comma of 1,234. Run twice for 1,234,567: a digit is looked at once in a run. */
static size_t remove_digit_commas(span text, char *out) {
    size_t written = 0;
    for (size_t i = 0; i < text.size;) {
        const char *at = text.data + i;
        if (text.size - i >= 5 && is_digit(at[0]) && at[1] == ',' && is_digit(at[2]) && is_digit(at[3]) && is_digit(at[4])) {
            out[written++] = at[0];
            memcpy(out + written, at + 2, 3);
            written += 3;
            i += 5;
        } else
            out[written++] = text.data[i++];
    }
    return written;
}

/* ---------------------------------------------------------------- hiding and showing */

/* Replaces `mark` between two characters of a kind; these are used up, so of a.b.c the first dot only. */
static size_t hide_between(span text, char mark, bool (*kind)(char), const char *word, char *out) {
    size_t written = 0, length = strlen(word);
    for (size_t i = 0; i < text.size;) {
        const char *at = text.data + i;
        if (text.size - i >= 3 && at[1] == mark && kind(at[0]) && kind(at[2])) {
            out[written++] = at[0];
            memcpy(out + written, word, length);
            written += length;
            out[written++] = at[2];
            i += 3;
        } else
            out[written++] = text.data[i++];
    }
    return written;
}

static size_t hide_dots(span text, char *out) {
    return hide_between(text, '.', is_word, hidden_dot, out);
}
static size_t hide_slashes(span text, char *out) {
    return hide_between(text, '/', is_digit, hidden_slash, out);
}

/* 's 't 'd 'm 'll 're 've, and no more of a word after it. */
static bool is_ending(span text, size_t at) {
    if (at >= text.size) return false;
    size_t length = strchr("stdm", text.data[at]) && text.data[at] ? 1 : 2;
    if (length == 2 && !stands_at(text, at, "ll") && !stands_at(text, at, "re") && !stands_at(text, at, "ve")) return false;
    return at + length == text.size || !is_word(text.data[at + length]);
}

static size_t hide_quotes(span text, char *out) {
    size_t written = 0, length = strlen(hidden_quote);
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '\'' && is_ending(text, i + 1)) {
            memcpy(out + written, hidden_quote, length);
            written += length;
        } else
            out[written++] = text.data[i];
    }
    return written;
}

static size_t show(span text, const char *word, char mark, char *out) {
    size_t written = 0, length = strlen(word);
    for (size_t i = 0; i < text.size;) {
        bool found = text.data[i] == word[0] && stands_at(text, i, word);
        out[written++] = found ? mark : text.data[i];
        i += found ? length : 1;
    }
    return written;
}

static size_t show_dots(span text, char *out) {
    return show(text, hidden_dot, '.', out);
}
static size_t show_quotes(span text, char *out) {
    return show(text, hidden_quote, '\'', out);
}
static size_t show_slashes(span text, char *out) {
    return show(text, hidden_slash, '/', out);
}

/* ---------------------------------------------------------------- single characters, in place */

/* A hyphen within a word becomes a blank; the letters beside it are used up, so of a-b-c the first only. */
static void part_words(char *text, size_t size) {
    for (size_t i = 0; i + 2 < size;) {
        bool found = text[i + 1] == '-' && is_word(text[i]) && is_word(text[i + 2]);
        if (found) text[i + 1] = ' ';
        i += found ? 3 : 1;
    }
}

/* Marks without meaning are blanks, all quotes are double, all other punctuation is a comma. */
static void simplify(char *text, size_t size) {
    static const char simpler[128] = {
        ['_'] = ' ', ['#'] = ' ', ['\\'] = ' ', ['\''] = '"', ['`'] = '"', ['('] = ',', [')'] = ',', ['['] = ',',
        [']'] = ',', ['.'] = ',', ['|'] = ',',  [':'] = ',',  [';'] = ',', ['?'] = ',', ['!'] = ',', ['='] = ',',
        ['+'] = ',', ['~'] = ',', ['-'] = ',',  ['/'] = ',',  ['{'] = ',', ['}'] = ','};
    for (size_t i = 0; i < size; i++) {
        char to = simpler[text[i] & 127];
        if (to) text[i] = to;
    }
}

/* ---------------------------------------------------------------- hashtags */

static int expand_hashtags(const hashtag_words *words, span text, limn_buffer *out, limn_error *error) {
    for (size_t i = 0, end; i < text.size; i = end) {
        end = i + 1;
        if (text.data[i] == '#')
            while (end < text.size && is_word(text.data[end])) end++;
        if (end == i + 1) {
            const char *next = text.data[i] == '#' ? NULL : memchr(text.data + i, '#', text.size - i);
            if (text.data[i] != '#') end = next ? (size_t)(next - text.data) : text.size;
            if (limn_buffer_append(out, text.data + i, end - i, error)) return -1;
        } else if (hashtag_split(words, text.data + i + 1, end - i - 1, out, error))
            return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- the last pass */

/* Characters that stand alone between blanks. */
static bool stands_alone(char c) {
    return c == '%' || c == '&' || c == '$' || c == '*';
}

static size_t run_length(span text, size_t at) {
    size_t end = at + 1;
    while (end < text.size && text.data[end] == text.data[at]) end++;
    return end - at;
}

/* Four or more of a character are one; quotes and blanks between them are one quote between blanks, commas and blanks between
 * them one comma and a blank, blanks are one blank. Nothing at the ends, and no comma. `out` has room for twice as much. */
static span merge(span text, char *out) {
    size_t written = 0;
    bool blank = false; /* one is due before the next character */
    char mark = 0;      /* the quote or comma that was written last, if only blanks came since */
    for (size_t i = 0; i < text.size;) {
        char c = text.data[i];
        size_t run = 1, kept = 1;
        if (is_space(c) || (c == mark && (c == ',' || c == '"'))) {
            blank = true;
            i++;
            continue;
        }
        bool alone = c == '"' || stands_alone(c);
        if (!alone && c != ',' && !is_digit(c)) {
            run = run_length(text, i);
            kept = run > 3 ? 1 : run;
        }
        if ((blank || alone) && c != ',' && written) out[written++] = ' ';
        memset(out + written, c, kept);
        written += kept;
        blank = alone || c == ',';
        mark = c == '"' || c == ',' ? c : 0;
        i += run;
    }
    if (written && out[written - 1] == ',') written--;
    size_t start = written && out[0] == ',' ? 1 : 0;
    while (start < written && out[start] == ' ') start++;
    while (written > start && out[written - 1] == ' ') written--;
    return (span){out + start, written - start};
}

/* ---------------------------------------------------------------- all of them */

/* Which of the 128 characters the text has. */
typedef struct {
    uint64_t low, high;
} character_set;

static character_set characters_of(span text) {
    character_set set = {0};
    for (size_t i = 0; i < text.size; i++) {
        uint64_t bit = (uint64_t)1 << (text.data[i] & 63);
        if (text.data[i] & 64)
            set.high |= bit;
        else
            set.low |= bit;
    }
    return set;
}

static bool has(character_set set, char c) {
    return (c & 64 ? set.high : set.low) >> (c & 63) & 1;
}

static void swap(rule_buffers *buffers) {
    limn_buffer a = buffers->a;
    buffers->a = buffers->b;
    buffers->b = a;
}

/* `grown`: the character in whose place a hidden word may come; 0 for none. */
static int run_pass(rule_buffers *buffers, pass function, char grown, limn_error *error) {
    size_t size = buffers->a.size;
    for (size_t i = 0; grown && i < buffers->a.size; i++)
        if (buffers->a.data[i] == grown) size += HIDDEN_LENGTH;
    buffers->b.size = 0;
    if (limn_buffer_reserve(&buffers->b, size, error)) return -1;
    buffers->b.size = function((span){buffers->a.data, buffers->a.size}, buffers->b.data);
    swap(buffers);
    return 0;
}

static int run_people(rule_buffers *buffers, uint64_t seed, limn_error *error) {
    buffers->b.size = 0;
    if (limn_buffer_reserve(&buffers->b, buffers->a.size * 2, error)) return -1;
    buffers->b.size = name_people((span){buffers->a.data, buffers->a.size}, seed, buffers->b.data);
    swap(buffers);
    return 0;
}

static void run_references(rule_buffers *buffers) {
    span kept = without_references((span){buffers->a.data, buffers->a.size});
    memmove(buffers->a.data, kept.data, kept.size);
    buffers->a.size = kept.size;
}

static int run_hashtags(const hashtag_words *words, rule_buffers *buffers, limn_error *error) {
    buffers->b.size = 0;
    if (expand_hashtags(words, (span){buffers->a.data, buffers->a.size}, &buffers->b, error)) return -1;
    swap(buffers);
    return 0;
}

/* From <person> to dates. */
static int take_out_and_hide(uint64_t seed, character_set set, rule_buffers *buffers, limn_error *error) {
    if (has(set, '<') && run_people(buffers, seed, error)) return -1;
    if (has(set, '[')) run_references(buffers);
    if (has(set, '<') && run_pass(buffers, remove_tags, 0, error)) return -1;
    if (buffers->a.size && memmem(buffers->a.data, buffers->a.size, "http", 4) && run_pass(buffers, remove_addresses, 0, error))
        return -1;
    for (int i = 0; i < 2; i++)
        if (has(set, ',') && run_pass(buffers, remove_digit_commas, 0, error)) return -1;
    if (has(set, '.') && run_pass(buffers, hide_dots, '.', error)) return -1;
    if (has(set, '\'') && run_pass(buffers, hide_quotes, '\'', error)) return -1;
    return has(set, '/') ? run_pass(buffers, hide_slashes, '/', error) : 0;
}

static int show_hidden(rule_buffers *buffers, limn_error *error) {
    static const pass passes[] = {show_dots, show_quotes, show_slashes};
    if (buffers->a.size == 0 || !memmem(buffers->a.data, buffers->a.size, HIDDEN, sizeof HIDDEN - 1)) return 0;
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++)
        if (run_pass(buffers, passes[i], 0, error)) return -1;
    return 0;
}

int rules_apply(const hashtag_words *words, uint64_t seed, rule_buffers *buffers, limn_buffer *out, limn_error *error) {
    character_set set = characters_of((span){buffers->a.data, buffers->a.size});
    if (take_out_and_hide(seed, set, buffers, error)) return -1;
    if (has(set, '-')) part_words(buffers->a.data, buffers->a.size);
    if (has(set, '#') && run_hashtags(words, buffers, error)) return -1;
    simplify(buffers->a.data, buffers->a.size);
    if (show_hidden(buffers, error)) return -1;
    buffers->b.size = 0;
    if (limn_buffer_reserve(&buffers->b, buffers->a.size * 2, error)) return -1;
    span merged = merge((span){buffers->a.data, buffers->a.size}, buffers->b.data);
    if (limn_buffer_append(out, " ", 1, error)) return -1;
    return limn_buffer_append(out, merged.data, merged.size, error);
}
