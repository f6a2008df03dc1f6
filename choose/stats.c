/* What is in a set: counts, sizes, lengths, hosts, words, duplicates, codes. Each file is counted by itself and added to the
 * whole in the files' order, so the result does not depend on threads. */
#include "choose/internal.h"
#include "tokenizer/tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    TEXTS_ROOM = 1000000,
    EXACT_LENGTHS = 4096,
    SIDE_BINS = 14,
    ASPECT_BINS = 9,
    CODES_MAX = 1 << 16,
    CAPTION_BINS = 10,
    REASONS_TOLD = 100
};
static const double SIDE_EDGES[SIDE_BINS] = {0, 64, 128, 192, 256, 257, 384, 512, 768, 1024, 1536, 2048, 4096, 8192};
static const double ASPECT_EDGES[ASPECT_BINS] = {0, 1 / 3.0, 0.5, 2 / 3.0, 0.9, 1.1, 1.5, 2, 3}; /* width / height */

/* Lengths up to a bound each by itself, so that the median is exact. */
typedef struct {
    uint64_t counts[EXACT_LENGTHS + 1]; /* the last: longer ones */
    uint64_t number, sum, least, most;
} lengths;

typedef struct {
    uint64_t *values;
    size_t count, capacity;
} hashes;

enum { IDENTITIES = 4 };
static const choose_by IDENTITY_BY[IDENTITIES] = {CHOOSE_BY_CAPTION, CHOOSE_BY_ADDRESS, CHOOSE_BY_PICTURE, CHOOSE_BY_NEAR};
static const char *const IDENTITY_NAMES[IDENTITIES] = {"captions", "addresses", "pictures", "perceptual_hashes"};

typedef struct {
    uint64_t files, bytes, samples, pictures, without_picture, without_caption, captions, not_utf8, without_json,
        broken_pictures;
    uint64_t picture_bytes;
    uint64_t widths[SIDE_BINS], heights[SIDE_BINS], aspects[ASPECT_BINS];
    uint64_t captions_of_picture[CAPTION_BINS + 1];
    lengths characters, words, tokens;
    choose_counter *hosts, *frequent, *kinds;
    hashes identities[IDENTITIES];
    uint64_t list_rows, list_failed, files_with_stats;
    choose_counter *reasons;
    uint64_t *codes; /* (CODES_MAX); of shards */
    size_t codebook_size, tokens_of_picture, image_size;
    char vqgan_sha256[65];
    bool mixed_vqgans;
} counts;

typedef struct {
    const choose_stats_options *options;
    choose_walk *walk;
    caption_encoder encoder;
    counts *whole;
    bool shards;
} statistics;

/* ---------------------------------------------------------------- counting */

static void free_counts(void *part) {
    counts *self = part;
    if (!self) return;
    choose_counter_free(self->hosts);
    choose_counter_free(self->frequent);
    choose_counter_free(self->kinds);
    choose_counter_free(self->reasons);
    for (size_t i = 0; i < IDENTITIES; i++) free(self->identities[i].values);
    free(self->codes);
    free(self);
}

static counts *make_counts(bool shards, limn_error *error) {
    counts *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    if ((self->hosts = choose_counter_create(TEXTS_ROOM, error)) &&
        (self->frequent = choose_counter_create(TEXTS_ROOM, error)) &&
        (self->kinds = choose_counter_create(TEXTS_ROOM, error)) &&
        (self->reasons = choose_counter_create(TEXTS_ROOM, error)) &&
        (!shards || (self->codes = limn_allocate(CODES_MAX, sizeof *self->codes, error))))
        return self;
    free_counts(self);
    return NULL;
}

static void add_length(lengths *self, uint64_t length) {
    self->counts[length < EXACT_LENGTHS ? length : EXACT_LENGTHS]++;
    if (self->number == 0 || length < self->least) self->least = length;
    if (length > self->most) self->most = length;
    self->number++;
    self->sum += length;
}

static void add_to_bins(uint64_t *bins, const double *edges, size_t count, double value) {
    size_t bin = count - 1;
    while (bin > 0 && value < edges[bin]) bin--;
    bins[bin]++;
}

static int add_hash(hashes *self, uint64_t value, limn_error *error) {
    if (self->count == self->capacity) {
        const size_t capacity = self->capacity ? self->capacity * 2 : 1024;
        uint64_t *grown = realloc(self->values, capacity * sizeof *grown);
        if (!grown) return limn_fail(error, "out of memory for finding duplicates; --no-duplicates does without");
        self->values = grown;
        self->capacity = capacity;
    }
    self->values[self->count++] = value;
    return 0;
}

static int count_word(void *context, const char *word, size_t size, limn_error *error) {
    return choose_counter_add(context, word, size, 1, error);
}

static int count_tokens(const statistics *self, choose_text caption, uint64_t *out, limn_error *error) {
    limn_buffer normalized = {0};
    int32_t *ids = NULL;
    size_t capacity = 0, count = 0;
    int failed = 0;
    /* As limn-train sees it: normalised where the model does, led by a space. */
    if (self->encoder.normalizer)
        failed = text_normalize(self->encoder.normalizer, caption.data, caption.size, &normalized, error);
    else
        failed = limn_buffer_append(&normalized, " ", 1, error) ||
                 limn_buffer_append(&normalized, caption.data, caption.size, error);
    if (!failed)
        failed = tokenizer_encode(self->encoder.tokenizer, normalized.data, normalized.size, &ids, &capacity, &count, error);
    *out = count;
    free(ids);
    limn_buffer_free(&normalized);
    return failed ? -1 : 0;
}

static int count_captions(const statistics *self, const choose_sample *sample, counts *out, limn_error *error) {
    out->captions += sample->captions;
    out->without_caption += choose_first_caption(sample).size == 0;
    out->captions_of_picture[sample->captions < CAPTION_BINS ? sample->captions : CAPTION_BINS]++;
    for (size_t i = 0; i < sample->captions; i++) {
        const choose_text caption = choose_trim(sample->caption[i].data, sample->caption[i].size);
        uint64_t tokens;
        out->not_utf8 += !limn_utf8_valid(caption.data, caption.size);
        add_length(&out->characters, choose_characters(caption));
        add_length(&out->words, choose_words(caption));
        if (choose_each_word(caption, count_word, out->frequent, error)) return -1;
        if (!self->encoder.tokenizer) continue;
        if (count_tokens(self, caption, &tokens, error)) return -1;
        add_length(&out->tokens, tokens);
    }
    return 0;
}

/* From KEY.json where that says it, else by decoding. */
static bool size_of_picture(const choose_sample *sample, double *width, double *height) {
    if (choose_number(sample, "width", width) && choose_number(sample, "height", height) && *width > 0 && *height > 0)
        return true;
    picture decoded;
    const picture_decode_options how = {0};
    if (picture_decode(&decoded, sample->entry->image, sample->entry->image_size, &how, NULL, NULL, NULL)) return false;
    *width = (double)decoded.width;
    *height = (double)decoded.height;
    picture_free(&decoded);
    return true;
}

static int count_picture(const choose_sample *sample, counts *out, limn_error *error) {
    const tar_sample *entry = sample->entry;
    double width, height, original_width, original_height;
    if (!entry->image || entry->image_size == 0) {
        out->without_picture++;
        return 0;
    }
    out->pictures++;
    out->picture_bytes += entry->image_size;
    if (choose_counter_add(out->kinds, entry->image_ending, strlen(entry->image_ending), 1, error)) return -1;
    if (!size_of_picture(sample, &width, &height)) {
        out->broken_pictures++;
        return 0;
    }
    add_to_bins(out->widths, SIDE_EDGES, SIDE_BINS, width);
    add_to_bins(out->heights, SIDE_EDGES, SIDE_BINS, height);
    /* A cropped picture's own proportions say nothing. */
    const bool original = choose_number(sample, "original_width", &original_width) &&
                          choose_number(sample, "original_height", &original_height) && original_width > 0 &&
                          original_height > 0;
    add_to_bins(out->aspects, ASPECT_EDGES, ASPECT_BINS, original ? original_width / original_height : width / height);
    return 0;
}

static int count_host(const choose_sample *sample, counts *out, limn_error *error) {
    choose_text host;
    const char *url = choose_string(sample, "url");
    return url && choose_host(url, &host) ? choose_counter_add(out->hosts, host.data, host.size, 1, error) : 0;
}

static void count_codes(const choose_sample *sample, counts *out) {
    const token_shard *shard = sample->shard;
    for (size_t t = 0; t < shard->length; t++) out->codes[sample->tokens[t]]++;
    if (out->samples > 1) return;
    out->codebook_size = shard->codebook_size;
    out->tokens_of_picture = shard->length;
    out->image_size = shard->image_size;
    memcpy(out->vqgan_sha256, shard->vqgan_sha256, sizeof out->vqgan_sha256);
}

static int count_sample(const statistics *self, const choose_sample *sample, counts *out, limn_error *error) {
    out->samples++;
    if (count_captions(self, sample, out, error)) return -1;
    if (sample->shard) {
        out->pictures++;
        count_codes(sample, out);
    } else {
        out->without_json += !sample->fields;
        if (count_picture(sample, out, error) || count_host(sample, out, error)) return -1;
    }
    for (size_t i = 0; self->options->duplicates && i < IDENTITIES; i++) {
        uint64_t identity;
        if (choose_identity(sample, IDENTITY_BY[i], &identity) && add_hash(&out->identities[i], identity, error)) return -1;
    }
    return 0;
}

/* What limn-download and limn-encode say beside a file of the rows that are not in it. */
static int count_stats(const char *path, counts *out, limn_error *error) {
    char beside[4096];
    const char *reason;
    json_t *count;
    if (snprintf(beside, sizeof beside, "%.*s.stats.json", (int)(strrchr(path, '.') - path), path) >= (int)sizeof beside)
        return 0;
    json_t *stats = limn_file_exists(beside) ? limn_json_load(beside, NULL) : NULL;
    if (!stats) return 0;
    const json_t *rows = json_object_get(stats, "rows"), *failed = json_object_get(stats, "failed");
    const json_int_t row_count = json_integer_value(rows ? rows : json_object_get(stats, "samples")),
                     failed_count = json_integer_value(failed ? failed : json_object_get(stats, "skipped"));
    int status = 0;
    out->files_with_stats++;
    if (row_count > 0) out->list_rows += (uint64_t)row_count;
    if (failed_count > 0) out->list_failed += (uint64_t)failed_count;
    json_object_foreach(json_object_get(stats, "reasons"), reason, count) {
        if (json_integer_value(count) > 0 && status == 0)
            status = choose_counter_add(out->reasons, reason, strlen(reason), (uint64_t)json_integer_value(count), error);
    }
    json_decref(stats);
    return status;
}

static int count_file(void *context, size_t job, void **part, limn_error *error) {
    statistics *self = context;
    const char *path = self->options->inputs.items[job];
    struct stat status = {0};
    choose_sample sample;
    counts *out = make_counts(self->shards, error);
    *part = out;
    if (!out) return -1;
    if (stat(path, &status) == 0) out->bytes = (uint64_t)status.st_size;
    out->files = 1;
    choose_reader *reader = choose_reader_open(path, &self->walk->seen, error);
    int got = reader ? 1 : -1, failed = 0;
    while (!failed && got == 1)
        if ((got = choose_reader_next(reader, &sample, error)) == 1) failed = count_sample(self, &sample, out, error);
    choose_reader_close(reader);
    if (failed || (got < 0 && error->exit_code == LIMN_EXIT_INTERRUPTED)) return -1;
    if (got == 0 && count_stats(path, out, error)) return -1;
    return got < 0 ? 1 : 0;
}

/* ---------------------------------------------------------------- adding up */

static void add_lengths(lengths *self, const lengths *other) {
    if (other->number == 0) return;
    for (size_t i = 0; i <= EXACT_LENGTHS; i++) self->counts[i] += other->counts[i];
    if (self->number == 0 || other->least < self->least) self->least = other->least;
    if (other->most > self->most) self->most = other->most;
    self->number += other->number;
    self->sum += other->sum;
}

static void add_numbers(uint64_t *self, const uint64_t *other, size_t count) {
    for (size_t i = 0; i < count; i++) self[i] += other[i];
}

static int add_counts(void *context, size_t job, void *part, limn_error *error) {
    (void)job;
    const counts *other = part;
    counts *self = ((statistics *)context)->whole;
    if (self->vqgan_sha256[0] && other->vqgan_sha256[0] && strcmp(self->vqgan_sha256, other->vqgan_sha256))
        self->mixed_vqgans = true;
    if (self->codebook_size == 0) {
        self->tokens_of_picture = other->tokens_of_picture;
        self->image_size = other->image_size;
        memcpy(self->vqgan_sha256, other->vqgan_sha256, sizeof self->vqgan_sha256);
    }
    if (other->codebook_size > self->codebook_size) self->codebook_size = other->codebook_size;
    self->files += other->files;
    self->bytes += other->bytes;
    self->samples += other->samples;
    self->pictures += other->pictures;
    self->without_picture += other->without_picture;
    self->without_caption += other->without_caption;
    self->captions += other->captions;
    self->not_utf8 += other->not_utf8;
    self->without_json += other->without_json;
    self->broken_pictures += other->broken_pictures;
    self->picture_bytes += other->picture_bytes;
    self->list_rows += other->list_rows;
    self->list_failed += other->list_failed;
    self->files_with_stats += other->files_with_stats;
    add_numbers(self->widths, other->widths, SIDE_BINS);
    add_numbers(self->heights, other->heights, SIDE_BINS);
    add_numbers(self->aspects, other->aspects, ASPECT_BINS);
    add_numbers(self->captions_of_picture, other->captions_of_picture, CAPTION_BINS + 1);
    if (self->codes) add_numbers(self->codes, other->codes, CODES_MAX);
    add_lengths(&self->characters, &other->characters);
    add_lengths(&self->words, &other->words);
    add_lengths(&self->tokens, &other->tokens);
    for (size_t i = 0; i < IDENTITIES; i++)
        for (size_t n = 0; n < other->identities[i].count; n++)
            if (add_hash(&self->identities[i], other->identities[i].values[n], error)) return -1;
    return choose_counter_merge(self->hosts, other->hosts, error) ||
                   choose_counter_merge(self->frequent, other->frequent, error) ||
                   choose_counter_merge(self->kinds, other->kinds, error) ||
                   choose_counter_merge(self->reasons, other->reasons, error)
               ? -1
               : 0;
}

/* ---------------------------------------------------------------- as JSON */

static json_t *number(uint64_t value) {
    return json_integer((json_int_t)value);
}

static uint64_t quantile(const lengths *self, double share) {
    uint64_t sum = 0;
    for (size_t i = 0; i <= EXACT_LENGTHS; i++)
        if ((double)(sum += self->counts[i]) >= share * (double)self->number && sum) return i;
    return self->most;
}

/* Ten to twenty bins of a round width, as many as reach nearly all. */
static json_t *lengths_json(const lengths *self) {
    static const uint64_t widths[] = {1, 2, 5, 10, 20, 50, 100, 200, 500};
    const uint64_t end = quantile(self, 0.995) + 1;
    size_t w = 0;
    while (w + 1 < sizeof widths / sizeof *widths && end > 16 * widths[w]) w++;
    json_t *bins = json_array();
    for (uint64_t from = 0; from < end; from += widths[w]) {
        uint64_t count = 0;
        for (uint64_t i = from; i < from + widths[w] && i < EXACT_LENGTHS; i++) count += self->counts[i];
        json_array_append_new(bins, json_pack("{s:I, s:I, s:I}", "from", (json_int_t)from, "to",
                                              (json_int_t)(from + widths[w] - 1), "count", (json_int_t)count));
    }
    return json_pack("{s:I, s:f, s:I, s:I, s:I, s:I, s:o}", "least", (json_int_t)self->least, "mean",
                     self->number ? (double)self->sum / (double)self->number : 0.0, "median", (json_int_t)quantile(self, 0.5),
                     "share_95", (json_int_t)quantile(self, 0.95), "share_99", (json_int_t)quantile(self, 0.99), "most",
                     (json_int_t)self->most, "histogram", bins);
}

static json_t *bins_json(const uint64_t *bins, const double *edges, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        if (bins[i])
            json_array_append_new(list,
                                  json_pack("{s:f, s:o, s:o}", "from", edges[i], "below",
                                            i + 1 < count ? json_real(edges[i + 1]) : json_null(), "count", number(bins[i])));
    return list;
}

static json_t *duplicates_json(counts *self) {
    json_t *all = json_object();
    for (size_t i = 0; i < IDENTITIES; i++) {
        uint64_t surplus, most;
        if (self->identities[i].count == 0) continue;
        choose_count_equal(self->identities[i].values, self->identities[i].count, &surplus, &most);
        json_object_set_new(all, IDENTITY_NAMES[i],
                            json_pack("{s:o, s:o, s:f, s:o}", "looked_at", number(self->identities[i].count), "duplicates",
                                      number(surplus), "share", (double)surplus / (double)self->identities[i].count,
                                      "most_alike", number(most)));
    }
    return all;
}

static int compare_falling(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* How the codebook is used; perplexity is e to the entropy: of a codebook used evenly its size. Sorts the codes' counts. */
static json_t *codes_json(counts *self) {
    uint64_t total = 0, used = 0, half = 0, sum = 0;
    double entropy = 0;
    for (size_t i = 0; i < self->codebook_size; i++) total += self->codes[i];
    for (size_t i = 0; i < self->codebook_size; i++) {
        const double share = total ? (double)self->codes[i] / (double)total : 0;
        used += self->codes[i] > 0;
        if (share > 0) entropy -= share * log(share);
    }
    qsort(self->codes, self->codebook_size, sizeof *self->codes, compare_falling);
    while (half < self->codebook_size && sum * 2 < total) sum += self->codes[half++];
    json_t *tenths = json_array();
    for (size_t t = 0; t < 10; t++) {
        uint64_t part = 0;
        for (size_t i = t * self->codebook_size / 10; i < (t + 1) * self->codebook_size / 10; i++) part += self->codes[i];
        json_array_append_new(tenths, json_real(total ? (double)part / (double)total : 0));
    }
    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:o}", "vqgan_sha256", self->vqgan_sha256,
                     "mixed_vqgans", self->mixed_vqgans, "image_size", (json_int_t)self->image_size, "tokens_of_picture",
                     (json_int_t)self->tokens_of_picture, "codebook_size", (json_int_t)self->codebook_size, "tokens",
                     (json_int_t)total, "used", (json_int_t)used, "perplexity", exp(entropy), "codes_of_half", (json_int_t)half,
                     "most_used_share", total ? (double)self->codes[0] / (double)total : 0.0, "share_of_tenths", tenths);
}

static json_t *summarise(const statistics *self, limn_error *error) {
    counts *whole = self->whole;
    const size_t top = self->options->top;
    json_t *all = json_object(), *captions_of = json_array();
    size_t last = 0;
    for (size_t i = 0; i <= CAPTION_BINS; i++)
        if (whole->captions_of_picture[i]) last = i;
    for (size_t i = 0; i <= last; i++) json_array_append_new(captions_of, number(whole->captions_of_picture[i]));
    json_object_set_new(all, "form", json_string(self->shards ? "token shards" : "tars"));
    json_object_set_new(all, "files", number(whole->files));
    json_object_set_new(all, "bytes", number(whole->bytes));
    json_object_set_new(all, "samples", number(whole->samples));
    json_object_set_new(all, "pictures", number(whole->pictures));
    json_object_set_new(all, "captions", number(whole->captions));
    json_object_set_new(all, "without_caption", number(whole->without_caption));
    json_object_set_new(all, "captions_not_utf8", number(whole->not_utf8));
    json_object_set_new(all, "captions_of_picture", captions_of);
    json_object_set_new(all, "characters", lengths_json(&whole->characters));
    json_object_set_new(all, "words", lengths_json(&whole->words));
    if (self->encoder.tokenizer) json_object_set_new(all, "caption_tokens", lengths_json(&whole->tokens));
    json_object_set_new(all, "frequent_words", choose_counter_json(whole->frequent, top, error));
    if (self->options->duplicates) json_object_set_new(all, "duplicates", duplicates_json(whole));
    if (self->shards) {
        json_object_set_new(all, "codes", codes_json(whole));
    } else {
        json_object_set_new(all, "without_picture", number(whole->without_picture));
        json_object_set_new(all, "without_json", number(whole->without_json));
        json_object_set_new(all, "broken_pictures", number(whole->broken_pictures));
        json_object_set_new(all, "picture_bytes", number(whole->picture_bytes));
        json_object_set_new(all, "kinds", choose_counter_json(whole->kinds, top, error));
        json_object_set_new(all, "widths", bins_json(whole->widths, SIDE_EDGES, SIDE_BINS));
        json_object_set_new(all, "heights", bins_json(whole->heights, SIDE_EDGES, SIDE_BINS));
        json_object_set_new(all, "aspects", bins_json(whole->aspects, ASPECT_EDGES, ASPECT_BINS));
        json_object_set_new(all, "hosts", choose_counter_json(whole->hosts, top, error));
    }
    if (whole->files_with_stats)
        json_object_set_new(all, "list",
                            json_pack("{s:o, s:o, s:o, s:o}", "files", number(whole->files_with_stats), "rows",
                                      number(whole->list_rows), "failed", number(whole->list_failed), "reasons",
                                      choose_counter_json(whole->reasons, REASONS_TOLD, error)));
    return all;
}

json_t *choose_stats(const choose_stats_options *options, limn_error *error) {
    choose_walk walk = {.what = "counting",
                        .jobs = options->inputs.count,
                        .total_bytes = choose_bytes_of(&options->inputs),
                        .work = count_file,
                        .merge = add_counts,
                        .free_part = free_counts};
    if (options->inputs.count == 0) {
        limn_fail_usage(error, "--input: no files");
        return NULL;
    }
    if (options->top < 1 || options->top > 10000) {
        limn_fail_usage(error, "--top: from 1 to 10000");
        return NULL;
    }
    statistics self = {.options = options, .walk = &walk, .shards = choose_form_of(options->inputs.items[0]) == CHOOSE_SHARDS};
    walk.context = &self;
    if (options->tokenizer && caption_encoder_load(&self.encoder, options->tokenizer, options->normalize, error)) return NULL;
    size_t damaged = 0;
    int status = (self.whole = make_counts(self.shards, error)) ? choose_walk_run(&walk, &damaged, error) : -1;
    json_t *all = status == 0 ? summarise(&self, error) : NULL;
    if (all) json_object_set_new(all, "damaged_files", number(damaged));
    free_counts(self.whole);
    if (options->tokenizer) caption_encoder_free(&self.encoder);
    return all;
}
