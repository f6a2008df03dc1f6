/* Statistics as a page for people. */
#include "choose/internal.h"

enum { BAR = 40 };

static double real(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static const char *grouped(const json_t *object, const char *key, char out[32]) {
    char digits[24];
    const int length = snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(json_object_get(object, key)));
    char *to = out;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-') *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return out;
}

static void print_heading(const char *text, FILE *out) {
    fprintf(out, "\n%s\n", text);
}

static void print_bar(double count, double most, FILE *out) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const size_t length = most > 0 ? (size_t)(count / most * BAR * 8 + 0.5) : 0;
    for (size_t i = 0; i < length / 8; i++) fputs("█", out);
    fprintf(out, "%s\n", count > 0 && length == 0 ? eighths[1] : eighths[length % 8]);
}

static double most_of(const json_t *bins) {
    size_t i;
    json_t *bin;
    double most = 0;
    json_array_foreach(bins, i, bin) if (real(bin, "count") > most) most = real(bin, "count");
    return most;
}

static void print_lengths(const char *what, const json_t *lengths, double total, FILE *out) {
    const json_t *bins = json_object_get(lengths, "histogram");
    const double most = most_of(bins);
    size_t i;
    json_t *bin;
    if (total == 0) return;
    print_heading(what, out);
    fprintf(out, "  mean %.1f, median %.0f, 95%% up to %.0f, 99%% up to %.0f; from %.0f to %.0f\n", real(lengths, "mean"),
            real(lengths, "median"), real(lengths, "share_95"), real(lengths, "share_99"), real(lengths, "least"),
            real(lengths, "most"));
    json_array_foreach(bins, i, bin) {
        char range[48];
        if (real(bin, "from") == real(bin, "to"))
            snprintf(range, sizeof range, "%.0f", real(bin, "from"));
        else
            snprintf(range, sizeof range, "%.0f–%.0f", real(bin, "from"), real(bin, "to"));
        const int pad = 11 - (int)choose_characters((choose_text){range, strlen(range)});
        fprintf(out, "  %*s%s %6.2f%%  ", pad > 0 ? pad : 0, "", range, 100 * real(bin, "count") / total);
        print_bar(real(bin, "count"), most, out);
    }
}

static void print_bins(const char *what, const json_t *bins, const char *format, double total, FILE *out) {
    const double most = most_of(bins);
    size_t i;
    json_t *bin;
    if (json_array_size(bins) == 0 || total == 0) return;
    print_heading(what, out);
    json_array_foreach(bins, i, bin) {
        char from[32], below[32] = "";
        snprintf(from, sizeof from, format, real(bin, "from"));
        if (json_is_number(json_object_get(bin, "below"))) snprintf(below, sizeof below, format, real(bin, "below"));
        if (real(bin, "below") == real(bin, "from") + 1)
            fprintf(out, "       %5s            %6.2f%%  ", from, 100 * real(bin, "count") / total);
        else
            fprintf(out, "  from %5s %s%-5s %6.2f%%  ", from, *below ? "below " : "      ", below,
                    100 * real(bin, "count") / total);
        print_bar(real(bin, "count"), most, out);
    }
}

static void print_top(const char *what, const json_t *counter, FILE *out) {
    const json_t *top = json_object_get(counter, "top");
    char number[32];
    size_t i;
    json_t *each;
    if (json_array_size(top) == 0) return;
    fprintf(out, "\n%s (%s different", what, grouped(counter, "different", number));
    if (!json_is_true(json_object_get(counter, "exact")))
        fprintf(out, " at least; rare ones were dropped, counts may be low by %s", grouped(counter, "low_by", number));
    fprintf(out, ")\n");
    const double most = real(json_array_get(top, 0), "count");
    json_array_foreach(top, i, each) {
        const char *text = json_string_value(json_object_get(each, "text"));
        const int pad = 28 - (int)choose_characters((choose_text){text, strlen(text)});
        fprintf(out, "  %s%*s %12s %6.2f%%  ", text, pad > 0 ? pad : 0, "", grouped(each, "count", number),
                100 * real(each, "share"));
        print_bar(real(each, "count"), most, out);
    }
}

static void print_duplicates(const json_t *duplicates, FILE *out) {
    const char *name;
    json_t *each;
    char looked[32], number[32], most[32];
    if (json_object_size(duplicates) == 0) return;
    print_heading("duplicates (beyond the first of each)", out);
    json_object_foreach((json_t *)(uintptr_t)duplicates, name, each)
        fprintf(out, "  %-18s %12s of %s, %.2f%%; up to %s alike\n", strcmp(name, "perceptual_hashes") ? name : "look-alikes",
                grouped(each, "duplicates", number), grouped(each, "looked_at", looked), 100 * real(each, "share"),
                grouped(each, "most_alike", most));
}

static void print_codes(const json_t *codes, FILE *out) {
    char used[32], size[32], half[32];
    size_t i;
    json_t *share;
    print_heading("codebook", out);
    const char *sha256 = json_string_value(json_object_get(codes, "vqgan_sha256"));
    fprintf(out, "  VQGAN %.12s%s%s, pictures of %.0f pixels, %.0f tokens each\n", *sha256 ? sha256 : "unknown",
            *sha256 ? "…" : "",
            json_is_true(json_object_get(codes, "mixed_vqgans")) ? " AND OTHERS: these shards do not belong together" : "",
            real(codes, "image_size"), real(codes, "tokens_of_picture"));
    fprintf(out,
            "  %s of %s codes used; perplexity %.1f (%.1f%% of the codebook); %s codes make half of all tokens; the most used "
            "%.2f%%\n",
            grouped(codes, "used", used), grouped(codes, "codebook_size", size), real(codes, "perplexity"),
            100 * real(codes, "perplexity") / (real(codes, "codebook_size") > 0 ? real(codes, "codebook_size") : 1),
            grouped(codes, "codes_of_half", half), 100 * real(codes, "most_used_share"));
    fprintf(out, "  share of the tokens by tenths of the codebook, the most used codes first:\n");
    const json_t *tenths = json_object_get(codes, "share_of_tenths");
    json_array_foreach(tenths, i, share) {
        fprintf(out, "  tenth %2zu     %6.2f%%  ", i + 1, 100 * json_number_value(share));
        print_bar(json_number_value(share), json_number_value(json_array_get(tenths, 0)), out);
    }
}

static void print_captions_of(const json_t *list, FILE *out) {
    if (json_array_size(list) <= 2) return;
    print_heading("captions a picture", out);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_array_get(list, i)))
            fprintf(out, "  %2zu%s %12lld\n", i, i == 10 ? "+" : " ", (long long)json_integer_value(json_array_get(list, i)));
}

void choose_stats_print(const json_t *stats, FILE *out) {
    const bool shards = json_object_get(stats, "codes") != NULL;
    const double captions = real(stats, "captions"), pictures = real(stats, "pictures");
    char a[32], b[32], c[32];
    fprintf(out, "%s samples in %s %s, %.2f GB\n", grouped(stats, "samples", a), grouped(stats, "files", b),
            json_string_value(json_object_get(stats, "form")), real(stats, "bytes") / 1e9);
    fprintf(out, "%s pictures, %s captions", grouped(stats, "pictures", a), grouped(stats, "captions", b));
    if (real(stats, "without_caption") > 0) fprintf(out, "; %s without a caption", grouped(stats, "without_caption", c));
    if (real(stats, "without_picture") > 0) fprintf(out, "; %s without a picture", grouped(stats, "without_picture", c));
    if (real(stats, "broken_pictures") > 0)
        fprintf(out, "; %s pictures cannot be decoded", grouped(stats, "broken_pictures", c));
    if (real(stats, "without_json") > 0) fprintf(out, "; %s without KEY.json", grouped(stats, "without_json", c));
    if (real(stats, "captions_not_utf8") > 0) fprintf(out, "; %s captions not UTF-8", grouped(stats, "captions_not_utf8", c));
    if (!shards && pictures > 0) fprintf(out, "; %.1f kB a picture", real(stats, "picture_bytes") / pictures / 1e3);
    fputc('\n', out);
    if (real(stats, "damaged_files") > 0)
        fprintf(out, "%s files are damaged: counted as far as they could be read\n", grouped(stats, "damaged_files", a));
    const json_t *list = json_object_get(stats, "list");
    if (list) {
        fprintf(out, "%s rows went in, %s were left out (by the stats.json of %s files)\n", grouped(list, "rows", a),
                grouped(list, "failed", b), grouped(list, "files", c));
        print_top("left out by reason", json_object_get(list, "reasons"), out);
    }
    if (shards) print_codes(json_object_get(stats, "codes"), out);
    print_captions_of(json_object_get(stats, "captions_of_picture"), out);
    print_bins("widths, pixels", json_object_get(stats, "widths"), "%.0f", pictures, out);
    print_bins("heights, pixels", json_object_get(stats, "heights"), "%.0f", pictures, out);
    print_bins("width / height (of the originals where KEY.json has them)", json_object_get(stats, "aspects"), "%.2f", pictures,
               out);
    print_lengths("characters a caption", json_object_get(stats, "characters"), captions, out);
    print_lengths("words a caption", json_object_get(stats, "words"), captions, out);
    if (json_object_get(stats, "caption_tokens"))
        print_lengths("tokens a caption, with those at its ends", json_object_get(stats, "caption_tokens"), captions, out);
    print_top("kinds of pictures", json_object_get(stats, "kinds"), out);
    print_top("hosts", json_object_get(stats, "hosts"), out);
    print_top("words", json_object_get(stats, "frequent_words"), out);
    print_duplicates(json_object_get(stats, "duplicates"), out);
}
