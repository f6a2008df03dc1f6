/* Rules that decide which samples stay. */
#include "choose/internal.h"

#include <libexttextcat/textcat.h>
#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- conditions on columns */

typedef enum { IS_EQUAL, IS_OTHER, IS_LESS, IS_AT_MOST, IS_MORE, IS_AT_LEAST } comparison;

typedef struct {
    char *column; /* owned */
    comparison how;
    const char *text; /* the value as it is given */
    double number;    /* NAN: it is none */
} condition;

static const struct {
    const char *sign;
    comparison how;
} SIGNS[] = {{">=", IS_AT_LEAST}, {"<=", IS_AT_MOST}, {"!=", IS_OTHER}, {"==", IS_EQUAL},
             {"=", IS_EQUAL},     {">", IS_MORE},     {"<", IS_LESS}};

static int parse_condition(const char *text, condition *out, limn_error *error) {
    const size_t length = strcspn(text, "<>=!");
    size_t name = length;
    while (name && text[name - 1] == ' ') name--;
    for (size_t i = 0; i < sizeof SIGNS / sizeof *SIGNS; i++) {
        const size_t sign = strlen(SIGNS[i].sign);
        if (strncmp(text + length, SIGNS[i].sign, sign)) continue;
        out->how = SIGNS[i].how;
        out->text = text + length + sign;
        while (*out->text == ' ') out->text++;
        char *end;
        out->number = strtod(out->text, &end);
        if (end == out->text || *end) out->number = NAN;
        if (name == 0 || !*out->text) break;
        if (isnan(out->number) && out->how != IS_EQUAL && out->how != IS_OTHER)
            return limn_fail_usage(error, "--where '%s': '%s' is no number, so only = and != can be asked", text, out->text);
        out->column = strndup(text, name);
        return out->column ? 0 : limn_fail(error, "out of memory for --where");
    }
    return limn_fail_usage(error, "--where '%s': not a column, one of = != < <= > >= and a value, as in 'width>=256'", text);
}

static bool compare(double value, comparison how, double with) {
    switch (how) {
    case IS_EQUAL:
        return value == with;
    case IS_OTHER:
        return value != with;
    case IS_LESS:
        return value < with;
    case IS_AT_MOST:
        return value <= with;
    case IS_MORE:
        return value > with;
    case IS_AT_LEAST:
        return value >= with;
    }
    return false;
}

static bool has_column(const token_shard *shard, const char *name) {
    for (size_t i = 0; i < shard->columns; i++)
        if (strcmp(shard->column_names[i], name) == 0) return true;
    return false;
}

/* 1: it holds; 0: not, or the sample has no such column; -1: no shard of this kind has one. */
static int holds(const condition *self, const choose_sample *sample, limn_error *error) {
    double value;
    if (sample->shard && !has_column(sample->shard, self->column)) {
        limn_buffer names = {0};
        for (size_t i = 0; i < sample->shard->columns; i++)
            limn_buffer_printf(&names, NULL, "%s%s", i ? ", " : "", sample->shard->column_names[i]);
        limn_fail_usage(error, "--where: the token shards have no column '%s'; they have %s", self->column,
                        names.size ? names.data : "none");
        limn_buffer_free(&names);
        return -1;
    }
    if (!isnan(self->number)) return choose_number(sample, self->column, &value) && compare(value, self->how, self->number);
    const char *text = choose_string(sample, self->column);
    return text && (strcmp(text, self->text) == 0) == (self->how == IS_EQUAL);
}

/* ---------------------------------------------------------------- the rules of a run */

enum {
    RULE_MIN_CHARS,
    RULE_MAX_CHARS,
    RULE_MIN_WORDS,
    RULE_MAX_WORDS,
    RULE_BLOCKED,
    RULE_SCRIPT,
    RULE_LANGUAGE,
    RULE_UNSAFE,
    RULE_NO_SCORE,
    RULES_FIXED
};
static const char *const FIXED_NAMES[RULES_FIXED] = {"min_chars", "max_chars", "min_words", "max_words",      "blocked_word",
                                                     "script",    "language",  "unsafe",    "no_safety_score"};
/* Under these names data sets give the probability that a picture is not fit to be shown. */
static const char *const SAFETY_NAMES[] = {"punsafe", "p_unsafe", "unsafe", "unsafe_score", "nsfw_score", "p_nsfw", "nsfw"};

typedef struct {
    const choose_filter_options *options;
    choose_blocklist *blocklist;
    condition *conditions; /* (options->where.count) */
    const char **names;    /* of the rules: the fixed ones, the conditions, "duplicate" */
} filter;

/* A thread's own. */
typedef struct {
    limn_buffer folded;
    void *textcat;
} filter_room;

static void free_room(void *room) {
    filter_room *self = room;
    limn_buffer_free(&self->folded);
    if (self->textcat) textcat_Done(self->textcat);
    free(self);
}

static void *make_room(void *context, limn_error *error) {
    const filter *self = context;
    filter_room *room = limn_allocate(1, sizeof *room, error);
    if (!room || !self->options->language) return room;
    room->textcat = special_textcat_Init(LIMN_TEXTCAT "/fpdb.conf", LIMN_TEXTCAT "/");
    if (room->textcat) return room;
    limn_fail(error, "--language: %s/fpdb.conf cannot be read; apt-get install libexttextcat-data", LIMN_TEXTCAT);
    free_room(room);
    return NULL;
}

/* Below this the library's guess is as good as none: of English captions under 20 characters it takes 16 % for English. */
enum { GUESS_MIN_CHARACTERS = 20 };

/* The guess is a list of what fits about as well, "[en--utf8][sco--utf8]", or "UNKNOWN" where too much does. */
static bool may_be_language(const filter_room *room, choose_text caption, const char *language) {
    char wanted[32];
    if (choose_characters(caption) < GUESS_MIN_CHARACTERS) return true;
    const char *guess = textcat_Classify(room->textcat, caption.data, caption.size);
    if (!guess || guess[0] != '[') return true;
    const size_t length = (size_t)snprintf(wanted, sizeof wanted, "[%.28s", language);
    for (const char *at = strstr(guess, wanted); at; at = strstr(at + 1, wanted))
        if (at[length] == ']' || at[length] == '-') return true;
    return false;
}

static int judge_caption(const filter *self, filter_room *room, const choose_sample *sample, limn_error *error) {
    const choose_filter_options *options = self->options;
    const choose_text caption = choose_first_caption(sample);
    if (options->min_chars || options->max_chars) {
        const size_t characters = choose_characters(caption);
        if (characters < options->min_chars) return CHOOSE_LEFT_OUT + RULE_MIN_CHARS;
        if (options->max_chars && characters > options->max_chars) return CHOOSE_LEFT_OUT + RULE_MAX_CHARS;
    }
    if (options->min_words || options->max_words) {
        const size_t words = choose_words(caption);
        if (words < options->min_words) return CHOOSE_LEFT_OUT + RULE_MIN_WORDS;
        if (options->max_words && words > options->max_words) return CHOOSE_LEFT_OUT + RULE_MAX_WORDS;
    }
    for (size_t i = 0; self->blocklist && i < sample->captions; i++) {
        const int found = choose_blocklist_find(self->blocklist, sample->caption[i], &room->folded, error);
        if (found < 0) return -1;
        if (found) return CHOOSE_LEFT_OUT + RULE_BLOCKED;
    }
    if (options->script && choose_script_share(caption, options->script) < options->script_share)
        return CHOOSE_LEFT_OUT + RULE_SCRIPT;
    if (options->language && !may_be_language(room, caption, options->language)) return CHOOSE_LEFT_OUT + RULE_LANGUAGE;
    return 0;
}

static int judge_safety(const choose_filter_options *options, const choose_sample *sample) {
    double score;
    if (isnan(options->max_unsafe)) return 0;
    for (size_t i = 0; i < sizeof SAFETY_NAMES / sizeof *SAFETY_NAMES; i++)
        if (choose_number(sample, SAFETY_NAMES[i], &score))
            return score <= options->max_unsafe ? 0 : CHOOSE_LEFT_OUT + RULE_UNSAFE;
    return CHOOSE_LEFT_OUT + RULE_NO_SCORE;
}

static int judge(void *context, void *room, const choose_sample *sample, limn_error *error) {
    const filter *self = context;
    int verdict = judge_safety(self->options, sample);
    for (size_t i = 0; verdict == 0 && i < self->options->where.count; i++) {
        const int fits = holds(&self->conditions[i], sample, error);
        verdict = fits < 0 ? -1 : fits ? 0 : CHOOSE_LEFT_OUT + RULES_FIXED + (int)i;
    }
    return verdict ? verdict : judge_caption(self, room, sample, error);
}

/* ---------------------------------------------------------------- the run */

static json_t *describe(const choose_filter_options *options, limn_error *error) {
    json_t *where = json_array();
    char blocked[65] = "";
    for (size_t i = 0; i < options->where.count; i++) json_array_append_new(where, json_string(options->where.items[i]));
    if (options->blocked && limn_sha256_file(options->blocked, blocked, error)) {
        json_decref(where);
        return NULL;
    }
    json_t *all = json_pack("{s:I, s:I, s:I, s:I, s:o, s:s, s:s, s:f, s:s, s:s, s:I}", "min_chars",
                            (json_int_t)options->min_chars, "max_chars", (json_int_t)options->max_chars, "min_words",
                            (json_int_t)options->min_words, "max_words", (json_int_t)options->max_words, "where", where,
                            "blocked_words_sha256", blocked, "script", options->script ? options->script : "", "script_share",
                            options->script_share, "language", options->language ? options->language : "", "dedup",
                            options->dedup ? options->dedup : "", "distance", (json_int_t)options->distance);
    if (!all) {
        limn_fail_usage(error, "an option's text is not valid UTF-8");
        return NULL;
    }
    json_object_set_new(all, "max_unsafe", isnan(options->max_unsafe) ? json_null() : json_real(options->max_unsafe));
    return all;
}

static int check(const choose_filter_options *options, choose_by *by, limn_error *error) {
    const bool shards = options->write.inputs.count && choose_form_of(options->write.inputs.items[0]) == CHOOSE_SHARDS;
    if (options->where.count > CHOOSE_RULES_MAX - RULES_FIXED - 1)
        return limn_fail_usage(error, "--where: more than %d conditions", CHOOSE_RULES_MAX - RULES_FIXED - 1);
    if (options->script && choose_script_share((choose_text){"", 0}, options->script) < 0)
        return limn_fail_usage(
            error, "--script %s: not one of latin, greek, cyrillic, arabic, hebrew, devanagari, thai, hangul, kana, han",
            options->script);
    if (options->script_share < 0 || options->script_share > 1) return limn_fail_usage(error, "--script-share: from 0 to 1");
    if (options->distance > HASH_DISTANCE_MAX)
        return limn_fail_usage(error, "--distance: from 0 to %d bits", HASH_DISTANCE_MAX);
    if (!options->dedup) return 0;
    if (choose_by_from_name(options->dedup, by) || *by == CHOOSE_BY_KEY)
        return limn_fail_usage(error, "--dedup %s: not one of caption, address, picture, near", options->dedup);
    if (shards && (*by == CHOOSE_BY_ADDRESS || *by == CHOOSE_BY_NEAR))
        return limn_fail_usage(error, "--dedup %s: token shards have none; caption and picture (its tokens) are there",
                               options->dedup);
    return 0;
}

static int prepare(filter *self, limn_error *error) {
    const choose_filter_options *options = self->options;
    const size_t conditions = options->where.count;
    self->conditions = limn_allocate(conditions, sizeof *self->conditions, error);
    self->names = limn_allocate(RULES_FIXED + conditions + 1, sizeof *self->names, error);
    if (!self->conditions || !self->names) return -1;
    memcpy(self->names, FIXED_NAMES, sizeof FIXED_NAMES);
    for (size_t i = 0; i < conditions; i++) {
        if (parse_condition(options->where.items[i], &self->conditions[i], error)) return -1;
        self->names[RULES_FIXED + i] = options->where.items[i];
    }
    self->names[RULES_FIXED + conditions] = "duplicate";
    return options->blocked && !(self->blocklist = choose_blocklist_load(options->blocked, error)) ? -1 : 0;
}

int choose_filter(const choose_filter_options *options, choose_summary *out, limn_error *error) {
    filter self = {.options = options};
    choose_by by = CHOOSE_BY_KEY;
    json_t *settings = NULL;
    *out = (choose_summary){0};
    int status = check(options, &by, error) || prepare(&self, error) || !(settings = describe(options, error)) ? -1 : 0;
    if (status == 0) {
        const choose_plan plan = {.write = &options->write,
                                  .command = "filter",
                                  .what = "filtering",
                                  .settings = settings,
                                  .sides = 1,
                                  .rules = RULES_FIXED + options->where.count + 1,
                                  .rule_names = self.names,
                                  .judge = judge,
                                  .context = &self,
                                  .make_room = make_room,
                                  .free_room = free_room,
                                  .dedup = options->dedup != NULL,
                                  .by = by,
                                  .distance = by == CHOOSE_BY_NEAR ? options->distance : 0};
        status = choose_rewrite(&plan, out, error);
    }
    json_decref(settings);
    for (size_t i = 0; self.conditions && i < options->where.count; i++) free(self.conditions[i].column);
    free(self.conditions);
    free(self.names);
    choose_blocklist_free(self.blocklist);
    return status;
}
