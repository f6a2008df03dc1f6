/* Is it mojibake? ftfy's heuristic (Robyn Speer, Apache License 2.0, ftfy/badness.py): certain characters beside each other. */
#include "tokenizer/mojibake.h"
#include <uchar.h>

/* ---------------------------------------------------------------- roles */

/* Characters; a hyphen between two means all from the one to the other. */
static const struct {
    uint32_t role;
    const char32_t *characters;
} role_lists[] = {
    {ROLE_COMMON, U"\u00A0\u00AD´·–—―’…"},
    {ROLE_C1, U"\x80-\x9F"},
    {ROLE_BAD, U"¤¦¨ª¬¯¸ºƒˆˇ˘˛˜†‡‰⌐◊\uFFFD"},
    {ROLE_LAW, U"§¶"},
    {ROLE_CURRENCY, U"¢£¥₧€"},
    {ROLE_START, U"¡©«¿΄΅‘‚“„•‹\uF8FF"},
    {ROLE_END, U"®»˝”›™"},
    {ROLE_NUMERIC, U"±²³µ¹¼½¾×÷⁄№∂∆∏∑√∞∩∫≈≠≡≤≥"},
    {ROLE_KAOMOJI, U"°Ò-ÖÙ-Üò-öø-üŌŐŪŲ"},
    {ROLE_UPPER_ACCENTED, U"À-ÑØÜÝĀĂĄĆČĎĐĒĖĘĚĞĢĪİĶĹĻĽŁŃŅŇŒŘŚŞŠŢŤŮŰŸŹŻŽҐ"},
    {ROLE_LOWER_ACCENTED, U"ß-ñüāăąćčďđēėęěğģīįķĺļľłœŕśşšťźżžґﬁﬂ"},
    {ROLE_UPPER_COMMON, U"ÞΆΈΉΊΌΎΏΑ-ΫЁ-Я"},
    {ROLE_LOWER_COMMON, U"ά-ωа-џ"},
    {ROLE_BOX, U"│┌┐┘├┤┬┼═-╬▀▄█▌▐-▓"},
    {ROLE_FIRST_OF_2, U"Â-ßĀĂĆČĎĐĒĖĘĚĞĢĪİĶĹĻŁŃŅŇŌŐŘŚŞŠŢŪŮŰŲŹŻŽΒ-ΡΣ-ίВ-Я"},
    {ROLE_FIRST_OF_3, U"à-ïāăąćčďēėęěģīįķĺļŕźΰ-οа-п"},
    {ROLE_FIRST_OF_4, U"ðóđğšπσру"},
    {ROLE_CONTINUATION, U" –—―‘’‚“”„•…"},
    {ROLE_CONTINUATION | ROLE_CONTINUATION_STRICT, U"\x80-¿ÆØæøĄąĽľŁłŒœŖŗŚśŞ-šŤťŸ-žƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁ-ЌЎЏё-ќўџҐґ†‡‰‹›€№™"}};

void badness_roles(mojibake_clues *self) {
    for (size_t i = 0; i < sizeof role_lists / sizeof role_lists[0]; i++)
        for (const char32_t *at = role_lists[i].characters; *at; at++) {
            char32_t last = at[1] == U'-' && at[2] ? at[2] : *at;
            for (char32_t c = *at; c <= last; c++) self->roles[clue_place(c)] |= role_lists[i].role;
            if (last != *at) at += 2;
        }
}

/* ---------------------------------------------------------------- what is unlikely */

enum {
    UPPER = ROLE_UPPER_ACCENTED,
    LOWER = ROLE_LOWER_ACCENTED,
    ACCENTED = UPPER | LOWER,
    EITHER_END = ROLE_START | ROLE_END,
    MOST = ACCENTED | ROLE_BOX | EITHER_END | ROLE_CURRENCY | ROLE_NUMERIC | ROLE_LAW,
    LETTERS = ROLE_UPPER_COMMON | ROLE_LOWER_COMMON
};

/* Roles one after another; third 0: any or no third. */
static const struct {
    uint32_t first, second, third;
} unlikely[] = {{ROLE_BAD | MOST, ROLE_BAD, 0},
                {ROLE_BAD, MOST, 0},
                {LOWER | ROLE_LOWER_COMMON | ROLE_BOX | ROLE_END | ROLE_CURRENCY | ROLE_NUMERIC, UPPER, 0},
                {ROLE_BOX | ROLE_END | ROLE_CURRENCY | ROLE_NUMERIC, LOWER, 0},
                {LOWER | ROLE_BOX | ROLE_END, ROLE_CURRENCY, 0},
                {UPPER | ROLE_BOX, ROLE_NUMERIC | ROLE_LAW, 0},
                {ACCENTED | ROLE_BOX | ROLE_CURRENCY | ROLE_END, ROLE_START, ROLE_NUMERIC},
                {ACCENTED | ROLE_CURRENCY | ROLE_NUMERIC | ROLE_BOX | ROLE_LAW, ROLE_END, ROLE_START},
                {ROLE_CURRENCY | ROLE_NUMERIC | ROLE_BOX, ROLE_START, 0},
                {ROLE_BOX, ROLE_KAOMOJI | ROLE_END, 0},
                {ACCENTED | ROLE_CURRENCY | ROLE_NUMERIC | EITHER_END | ROLE_LAW, ROLE_BOX, 0}};

/* Characters that begin mojibake, and those that tell it in the second place. */
static const struct {
    const char32_t *first, *second;
} telling_pairs[] = {{U"ÂÃÎÐ", U"€œŠš¢£Ÿž\u00A0\u00AD®©°·»–—´"}, /* Windows-1252, of two bytes */
                     {U"×", U"²³"},
                     {U"à", U"²µ¹¼½¾"},       /* Windows-1252, of South Asian alphabets */
                     {U"√", U"±∂†≠®™´≤≥¥µø"}, /* MacRoman */
                     {U"≈", U"°¢"},
                     {U"в", U"Ђ"}}; /* Windows-1251, of U+2000 on */

static const struct {
    const char32_t *first, *second, *third;
} telling_triples[] = {{U"‚", U"Ä", U"ìîïòôúùû†°¢π"}, /* MacRoman */
                       {U"‚", U"âó", U"àäê°"},
                       {U"β", U"€", U"™\u00A0Ά\u00AD®°"}}; /* Windows-1253, of U+2000 on */

static bool is_in(uint32_t code, const char32_t *set) {
    while (*set && *set != code) set++;
    return *set != 0;
}

static bool is_small(uint32_t code) {
    return code >= 'a' && code <= 'z';
}

static bool is_latin(uint32_t code) {
    return is_small(code) || (code >= 'A' && code <= 'Z');
}

static bool is_space(uint32_t code) {
    return unicode_flags(code) & UNICODE_SPACE;
}

/* A text with a place in it; outside of the text there are zeros, which play no role. */
typedef struct {
    const mojibake_clues *clues;
    const uint32_t *codes;
    size_t count, at;
} view;

static uint32_t after(const view *self, size_t distance) {
    return self->at + distance < self->count ? self->codes[self->at + distance] : 0;
}
static uint32_t before(const view *self, size_t distance) {
    return self->at >= distance ? self->codes[self->at - distance] : 0;
}
static uint32_t roles_after(const view *self, size_t distance) {
    return self->at + distance < self->count ? clue_roles(self->clues, self->codes[self->at + distance]) : 0;
}

/* A or A with tilde, and a blank that was U+00A0: after a word, or at the start. */
static bool is_lone_first_byte(const view *self) {
    uint32_t previous = before(self, 1);
    if (!is_in(after(self, 0), U"ÃÂ") || after(self, 1) != ' ') return false;
    return self->at == 0 || is_small(previous) || (self->at >= 2 && is_space(previous) && is_small(before(self, 2)));
}

/* A with circumflex before a character that Latin-1 has: their mojibake is that and itself. */
static bool is_doubled(const view *self) {
    if (after(self, 0) != U'Â' || self->at == 0) return false;
    if (after(self, 1) != ' ' && !(roles_after(self, 1) & EITHER_END)) return false;
    uint32_t previous = before(self, 1);
    return is_small(previous) || is_in(previous, U".,?!") || (clue_roles(self->clues, previous) & ROLE_END);
}

/* Arabic in Windows-1252: two letters of two bytes each. */
static bool is_arabic(const view *self) {
    for (size_t i = 0; i < 4; i += 2) {
        uint32_t second = ROLE_COMMON | ROLE_CURRENCY | ROLE_BAD | ROLE_NUMERIC | ROLE_START;
        if (!is_in(after(self, i), U"ØÙ")) return false;
        if (!(roles_after(self, i + 1) & second) && !is_in(after(self, i + 1), U"ŸŠ®°µ»")) return false;
    }
    return true;
}

/* Cyrillic in Windows-1251, or Greek in Windows-1253: letters of two bytes, where the first of them is one of a few. */
static bool is_between(const view *self, const char32_t *firsts, const char32_t *also) {
    uint32_t roles = ROLE_C1 | ROLE_BAD | EITHER_END | ROLE_CURRENCY;
    return is_in(after(self, 0), firsts) && is_in(after(self, 2), firsts) &&
           ((roles_after(self, 1) & roles) || is_in(after(self, 1), also));
}

/* Mojibake twice over, with Latin letters near. */
static bool is_twice_over(const view *self) {
    static const char32_t sequence[] = U"ГўВЂВ";
    for (size_t i = 0; i < 5; i++)
        if (after(self, i) != sequence[i]) return false;
    return self->at + 6 < self->count && after(self, 5) != '\n' && (is_latin(after(self, 6)) || after(self, 6) == ' ');
}

static bool is_telling(const view *self) {
    uint32_t first = after(self, 0), second = after(self, 1), third = after(self, 2);
    for (size_t i = 0; i < sizeof telling_pairs / sizeof telling_pairs[0]; i++)
        if (is_in(first, telling_pairs[i].first) && is_in(second, telling_pairs[i].second)) return true;
    for (size_t i = 0; i < sizeof telling_triples / sizeof telling_triples[0]; i++)
        if (is_in(first, telling_triples[i].first) && is_in(second, telling_triples[i].second) &&
            is_in(third, telling_triples[i].third))
            return true;
    if (is_in(first, U"ÂÃÎÐ") && (roles_after(self, 1) & EITHER_END)) return true;
    return is_arabic(self) || is_between(self, U"ВГРС", U"°µ") || is_between(self, U"ΒΓΞΟ", U"°") || is_twice_over(self);
}

/* Accented letters and what stands around them in a word. */
static bool is_unlikely_in_word(const view *self, uint32_t roles, uint32_t next) {
    uint32_t previous = before(self, 1), third = after(self, 2);
    if (is_latin(previous) && (roles & LETTERS) && (next & ROLE_BAD)) return true;
    if (!(roles & ACCENTED)) return false;
    if ((roles & UPPER) && self->at && is_space(previous) && (next & ROLE_CURRENCY)) return true;
    if ((roles & UPPER) && is_small(previous) && (next & (ROLE_START | ROLE_CURRENCY))) return true;
    if ((roles & UPPER) && after(self, 1) == U'°') return true;
    return (next & EITHER_END) && self->at + 2 < self->count && (third == '_' || (unicode_flags(third) & UNICODE_WORD));
}

/* Whether something unlikely begins, or has its first suspicious character, at the place, whose character has `roles`. */
static bool is_bad_at(const view *self, uint32_t roles) {
    uint32_t code = after(self, 0), next = roles_after(self, 1) & ROLES_OF_BADNESS;
    if (roles & ROLE_C1) return true;
    if ((code == U'Œ' || code == U'œ') && self->at + 1 < self->count && !is_latin(after(self, 1))) return true;
    if (is_lone_first_byte(self) || is_doubled(self)) return true;
    if (!next) return false;
    if (!((roles | next) & ~(uint32_t)LETTERS & ROLES_OF_BADNESS) && code != U'в' && code != U'Г') return false;
    for (size_t i = 0; i < sizeof unlikely / sizeof unlikely[0]; i++)
        if ((roles & unlikely[i].first) && (next & unlikely[i].second) &&
            (!unlikely[i].third || (roles_after(self, 2) & unlikely[i].third)))
            return true;
    return is_unlikely_in_word(self, roles, next) || is_telling(self);
}

bool badness_found(const mojibake_clues *self, const uint32_t *codes, size_t count) {
    view place = {.clues = self, .codes = codes, .count = count};
    for (; place.at < count; place.at++) {
        uint32_t roles = clue_roles(self, codes[place.at]) & ROLES_OF_BADNESS;
        if (roles && is_bad_at(&place, roles)) return true;
    }
    return false;
}
