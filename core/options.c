/* The command line: parsing, --help. */
#include "core/internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The options that every program has. */
static bool common_help, common_version, common_quiet;
static const char *common_log_level;
static size_t common_threads;

static const limn_option common_options[] = {
    {"threads", LIMN_OPTION_SIZE, &common_threads, "N", "threads to use; else LIMN_THREADS, else the CPUs this process may use",
     false},
    {"quiet", LIMN_OPTION_FLAG, &common_quiet, NULL, "no log and no progress, only results and errors", false},
    {"log-level", LIMN_OPTION_STRING, &common_log_level, "debug|info|warning|error", "how much to say on stderr", false},
    {"help", LIMN_OPTION_FLAG, &common_help, NULL, "print this and stop", false},
    {"version", LIMN_OPTION_FLAG, &common_version, NULL, "print the version and stop", false},
    {0},
};

enum { OPTIONS_MAX = 128, HELP_COLUMN_MAX = 34, HELP_WIDTH = 110, THREADS_MAX = 4096 };

/* ---------------------------------------------------------------- --help */

static size_t label_width(const limn_option *option) {
    return 2 + strlen(option->name) + (option->placeholder ? 1 + strlen(option->placeholder) : 0);
}

/* Appends the default in parentheses; empty when there is none worth showing. */
static void default_text(const limn_option *option, char *out, size_t size) {
    out[0] = '\0';
    if (option->required || !option->value) return;
    switch (option->kind) {
    case LIMN_OPTION_STRING: {
        const char *text = *(const char **)option->value;
        if (text && *text) snprintf(out, size, " (default: %s)", text);
        break;
    }
    case LIMN_OPTION_SIZE:
        if (*(size_t *)option->value) snprintf(out, size, " (default: %zu)", *(size_t *)option->value);
        break;
    case LIMN_OPTION_SEED:
        snprintf(out, size, " (default: %llu)", (unsigned long long)*(uint64_t *)option->value);
        break;
    case LIMN_OPTION_FLOAT:
        if (*(double *)option->value != 0) snprintf(out, size, " (default: %g)", *(double *)option->value);
        break;
    case LIMN_OPTION_YES_NO:
        snprintf(out, size, " (default: %s)", *(bool *)option->value ? "yes" : "no");
        break;
    case LIMN_OPTION_FLAG:
    case LIMN_OPTION_STRINGS:
        break;
    }
}

/* Prints text broken at spaces, the following lines starting at `column`. */
static void print_wrapped(const char *text, size_t column) {
    size_t at = column;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (at > column && at + 1 + word > HELP_WIDTH) {
            printf("\n%*s", (int)column, "");
            at = column;
        } else if (at > column) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)word, text);
        at += word;
        text += word;
        while (*text == ' ') text++;
    }
    putchar('\n');
}

static void print_options(const limn_option *options, size_t column) {
    for (; options->name; options++) {
        printf("  --%s%s%s", options->name, options->placeholder ? " " : "", options->placeholder ? options->placeholder : "");
        size_t width = 2 + label_width(options);
        if (width + 2 > column)
            printf("\n%*s", (int)column, "");
        else
            printf("%*s", (int)(column - width), "");
        char shown[512], text[2048];
        default_text(options, shown, sizeof shown);
        snprintf(text, sizeof text, "%s%s%s", options->help ? options->help : "", options->required ? " (required)" : "",
                 shown);
        print_wrapped(text, column);
    }
}

static void print_help(const limn_program *program, const limn_option *options) {
    printf("%s: %s\n\nusage: %s", program->name, program->summary, program->name);
    for (const limn_option *each = options; each->name; each++)
        if (each->required) printf(" --%s %s", each->name, each->placeholder ? each->placeholder : "");
    printf(" [options]%s%s\n\noptions:\n", program->positional ? " " : "", program->positional ? program->positional : "");
    size_t column = 0;
    for (const limn_option *table = options;; table = common_options) {
        for (const limn_option *each = table; each->name; each++) {
            size_t width = label_width(each) + 4;
            if (width > column && width <= HELP_COLUMN_MAX) column = width;
        }
        if (table == common_options) break;
    }
    print_options(options, column);
    print_options(common_options, column);
    if (program->examples) {
        size_t length = strlen(program->examples);
        printf("\nexamples:\n%s%s", program->examples, length && program->examples[length - 1] == '\n' ? "" : "\n");
    }
}

/* ---------------------------------------------------------------- values */

static bool parse_unsigned(const char *text, const char **end, uint64_t *out) {
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    char *stop;
    unsigned long long value = strtoull(text, &stop, 10);
    *end = stop;
    *out = value;
    return errno == 0;
}

static bool parse_size(const char *text, size_t *out) {
    const char *end;
    uint64_t value, scale = 1;
    if (!parse_unsigned(text, &end, &value)) return false;
    if (*end == 'k') scale = 1000;
    if (*end == 'M') scale = 1000000;
    if (*end == 'G') scale = 1000000000;
    if (scale != 1) end++;
    return !*end && !__builtin_mul_overflow(value, scale, out);
}

static int append_string(limn_strings *strings, const char *item, limn_error *error) {
    const char **items = realloc(strings->items, (strings->count + 1) * sizeof *items);
    if (!items) return limn_fail(error, "out of memory");
    items[strings->count++] = item;
    strings->items = items;
    return 0;
}

static int store(const limn_option *option, const char *text, limn_error *error) {
    uint64_t number;
    const char *end;
    switch (option->kind) {
    case LIMN_OPTION_FLAG:
        *(bool *)option->value = true;
        return 0;
    case LIMN_OPTION_STRING:
        if (option->placeholder && strchr(option->placeholder, '|') && !limn_is_choice(option->placeholder, text))
            return limn_fail_usage(error, "--%s is '%s' but must be one of %s", option->name, text, option->placeholder);
        *(const char **)option->value = text;
        return 0;
    case LIMN_OPTION_STRINGS:
        return append_string(option->value, text, error);
    case LIMN_OPTION_SIZE:
        if (!parse_size(text, option->value))
            return limn_fail_usage(error, "--%s is '%s' but must be a whole number, such as 12 or 10k", option->name, text);
        return 0;
    case LIMN_OPTION_SEED:
        if (!parse_unsigned(text, &end, &number) || *end)
            return limn_fail_usage(error, "--%s is '%s' but must be a whole number below 2^64", option->name, text);
        *(uint64_t *)option->value = number;
        return 0;
    case LIMN_OPTION_FLOAT: {
        char *stop;
        double value = strtod(text, &stop);
        if (stop == text || *stop || !isfinite(value))
            return limn_fail_usage(error, "--%s is '%s' but must be a number", option->name, text);
        *(double *)option->value = value;
        return 0;
    }
    case LIMN_OPTION_YES_NO:
        if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
            return limn_fail_usage(error, "--%s is '%s' but must be yes or no", option->name, text);
        *(bool *)option->value = text[0] == 'y';
        return 0;
    }
    return limn_fail(error, "--%s has no kind", option->name);
}

/* ---------------------------------------------------------------- parsing */

static const limn_option *find_option(const limn_option *options, const char *name, size_t length) {
    for (; options->name; options++)
        if (strlen(options->name) == length && strncmp(options->name, name, length) == 0) return options;
    return NULL;
}

static int unknown_option(const limn_option *options, const char *word, limn_error *error) {
    const char *names[OPTIONS_MAX + 1] = {0};
    size_t count = 0;
    for (const limn_option *each = options; each->name && count < OPTIONS_MAX; each++) names[count++] = each->name;
    for (const limn_option *each = common_options; each->name && count < OPTIONS_MAX; each++) names[count++] = each->name;
    char name[256];
    snprintf(name, sizeof name, "%s", word + strspn(word, "-"));
    name[strcspn(name, "=")] = '\0';
    const char *nearest = limn_nearest(name, names);
    if (nearest) return limn_fail_usage(error, "unknown option %s; did you mean --%s?", word, nearest);
    return limn_fail_usage(error, "unknown option %s; --help lists the options", word);
}

static bool is_option_word(const char *word) {
    return word[0] == '-' && word[1] == '-';
}

/* Reads the option at argv[*at] and its value or values, leaving *at at the last word used. */
static int parse_option(const limn_option *options, bool *given, int argc, char **argv, int *at, limn_error *error) {
    const char *word = argv[*at], *name = word + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    const limn_option *option = find_option(options, name, length);
    if (option) given[option - options] = true;
    if (!option) option = find_option(common_options, name, length);
    if (!option) return unknown_option(options, word, error);
    if (option->kind == LIMN_OPTION_FLAG) {
        if (value) return limn_fail_usage(error, "--%s takes no value, but has '%s'", option->name, value);
        return store(option, NULL, error);
    }
    if (value) return store(option, value, error);
    if (*at + 1 >= argc || is_option_word(argv[*at + 1]))
        return limn_fail_usage(error, "--%s needs a value: --%s %s", option->name, option->name,
                               option->placeholder ? option->placeholder : "VALUE");
    do {
        if (store(option, argv[++*at], error)) return -1;
    } while (option->kind == LIMN_OPTION_STRINGS && *at + 1 < argc && !is_option_word(argv[*at + 1]));
    return 0;
}

static int apply_common(limn_error *error) {
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    for (size_t i = 0; common_log_level && i < sizeof levels / sizeof *levels; i++)
        if (strcmp(levels[i], common_log_level) == 0) limn_set_log_level((limn_log_level)i);
    if (common_quiet) limn_set_log_level(LIMN_LOG_QUIET);
    if (common_threads > THREADS_MAX)
        return limn_fail_usage(error, "--threads is %zu but must be from 1 to %d", common_threads, THREADS_MAX);
    if (common_threads) limn_set_threads(common_threads);
    return 0;
}

int limn_options_parse(const limn_program *program, const limn_option *options, int argc, char **argv,
                       limn_strings *positionals, limn_error *error) {
    bool given[OPTIONS_MAX] = {0};
    common_help = common_version = common_quiet = false;
    common_log_level = NULL;
    common_threads = 0;
    if (positionals) *positionals = (limn_strings){0};
    /* Asked for anywhere, --help and --version come before any complaint about the rest. */
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(program, options);
            return 1;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("%s %s\n", program->name, LIMN_VERSION);
            return 1;
        }
    }
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
        } else if (!only_words && is_option_word(word)) {
            if (parse_option(options, given, argc, argv, &i, error)) return -1;
        } else if (!only_words && word[0] == '-' && word[1] != '\0') {
            return unknown_option(options, word, error);
        } else if (!program->positional || !positionals) {
            return limn_fail_usage(error, "'%s' is not understood here: options begin with --", word);
        } else if (append_string(positionals, word, error)) {
            return -1;
        }
    }
    for (size_t i = 0; options[i].name; i++)
        if (options[i].required && !given[i])
            return limn_fail_usage(error, "--%s %s is missing", options[i].name,
                                   options[i].placeholder ? options[i].placeholder : "");
    return apply_common(error);
}

void limn_strings_free(limn_strings *strings) {
    free(strings->items);
    *strings = (limn_strings){0};
}
