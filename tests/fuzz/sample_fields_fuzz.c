/* KEY.json of strangers: a tar's samples, their columns and identities, and captions by all that judges them. */
#include "choose/internal.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <string.h>

static const char *const SEEDS[] = {
    "{\"key\": \"000000001\", \"url\": \"http://user@host.example:80/a.jpg\", \"width\": 256, \"score\": \"0.31\", \"phash\": "
    "\"00ff00ff00ff00ff\", \"sha256\": \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\", \"caption\": \"a "
    "caf\xc3\xa9\"}",
    "{\"url\": \"https://[::1]:8/\", \"caption\": \"\\u732b \\ud83d\\ude00 Stra\xc3\x9f"
    "e\", \"width\": \"1e400\", \"score\": true}",
    "{\"caption\": \"  \xd0\x9a\xd0\xbe\xd1\x88\xd0\xba\xd0\xb0 red barn \", \"nested\": [[[{\"a\": null}]]], \"phash\": "
    "\"zz\"}"};

static bool make_seed(size_t index, limn_buffer *out) {
    return index < sizeof SEEDS / sizeof *SEEDS && limn_buffer_append(out, SEEDS[index], strlen(SEEDS[index]), NULL) == 0;
}

static int count_word(void *context, const char *word, size_t size, limn_error *error) {
    (void)error;
    size_t *words = context;
    ++*words;
    return limn_utf8_valid(word, size) && size ? 0 : -1;
}

static const char *judge(choose_text caption) {
    limn_buffer folded = {0};
    size_t words = 0;
    const char *complaint = NULL;
    if (choose_each_word(caption, count_word, &words, NULL)) complaint = "a word that is not UTF-8";
    if (choose_fold(caption, &folded, NULL)) complaint = "a caption cannot be folded";
    if (!complaint && !limn_utf8_valid(folded.data, folded.size)) complaint = "folded to what is not UTF-8";
    const double share = choose_script_share(caption, "latin");
    if (!(share >= 0 && share <= 1)) complaint = "a share that is none";
    if (choose_words(caption) > choose_characters(caption)) complaint = "more words than characters";
    limn_buffer_free(&folded);
    return complaint;
}

static const char *target(const char *data, size_t size) {
    static const char *const columns[] = {"width", "score", "url", "phash"};
    json_t *fields = choose_fields_parse(data, size);
    const choose_text caption = {data, size};
    if (!fields) return judge(caption);
    const char *complaint = NULL;
    tar_sample entry = {.image = (const unsigned char *)data, .image_size = size, .image_ending = "jpg"};
    const json_t *text = json_object_get(fields, "caption");
    const choose_text own = {json_string_value(text), json_string_length(text)};
    const choose_sample sample = {.key = "k", .captions = own.data ? 1 : 0, .caption = &own, .entry = &entry, .fields = fields};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        double number;
        if (choose_number(&sample, columns[i], &number) == isnan(number)) complaint = "a number that is none";
    }
    for (int by = CHOOSE_BY_KEY; by <= CHOOSE_BY_NEAR; by++) {
        uint64_t identity;
        if (!choose_identity(&sample, (choose_by)by, &identity) && (by == CHOOSE_BY_KEY || by == CHOOSE_BY_PICTURE))
            complaint = "no identity where there is one";
    }
    choose_text host;
    const char *url = choose_string(&sample, "url");
    if (url && choose_host(url, &host) && (host.data < url || host.data + host.size > url + strlen(url)))
        complaint = "a host outside its address";
    if (!complaint) complaint = judge(choose_first_caption(&sample));
    json_decref(fields);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
