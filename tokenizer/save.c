/* Writing vocab.json, merges.txt and tokenizer.json, as Hugging Face tokenizers 0.13 writes them. */
#include "tokenizer/internal.h"
#include <limits.h>
#include <string.h>

/* A JSON string as serde writes it: characters outside ASCII as they are. */
static int write_string(limn_buffer *out, const char *text, size_t size, limn_error *error) {
    static const char plain[] = "\b\f\n\r\t\"\\", escaped[] = "bfnrt\"\\";
    if (limn_buffer_append(out, "\"", 1, error)) return -1;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *found = c ? strchr(plain, c) : NULL;
        int status = found     ? limn_buffer_printf(out, error, "\\%c", escaped[found - plain])
                     : c < ' ' ? limn_buffer_printf(out, error, "\\u%04x", c)
                               : limn_buffer_append(out, text + i, 1, error);
        if (status) return -1;
    }
    return limn_buffer_append(out, "\"", 1, error);
}

static int write_token(limn_buffer *out, const tokenizer *self, size_t id, limn_error *error) {
    return write_string(out, string_list_at(&self->texts, id), string_list_size_at(&self->texts, id), error);
}

/* Every token of the model's vocabulary and its id, in the order of ids: `before` before each, `colon` between. */
static int write_vocabulary(limn_buffer *out, const tokenizer *self, const char *before, const char *colon, limn_error *error) {
    const char *comma = "";
    for (size_t id = 0; id < self->texts.count; id++) {
        if (self->kinds[id] & TOKEN_BEYOND) continue;
        if (limn_buffer_printf(out, error, "%s%s", comma, before) || write_token(out, self, id, error) ||
            limn_buffer_printf(out, error, "%s%zu", colon, id))
            return -1;
        comma = ",";
    }
    return 0;
}

static const char *json_bool(bool value) {
    return value ? "true" : "false";
}

static int write_added(limn_buffer *out, const tokenizer *self, limn_error *error) {
    for (size_t i = 0; i < self->added_count; i++) {
        const added_token *token = &self->added[i];
        if (limn_buffer_printf(out, error, "%s\n    {\n      \"id\": %d,\n      \"content\": ", i ? "," : "", (int)token->id) ||
            write_token(out, self, (size_t)token->id, error) ||
            limn_buffer_printf(out, error,
                               ",\n      \"single_word\": %s,\n      \"lstrip\": %s,\n      \"rstrip\": %s,\n"
                               "      \"normalized\": %s,\n      \"special\": %s\n    }",
                               json_bool(token->single_word), json_bool(token->lstrip), json_bool(token->rstrip),
                               json_bool(token->normalized), json_bool(token->special)))
            return -1;
    }
    return limn_buffer_printf(out, error, "%s],\n", self->added_count ? "\n  " : "");
}

/* ---------------------------------------------------------------- what is put around a text */

static int write_boundary(limn_buffer *out, const tokenizer *self, const char *key, int32_t id, limn_error *error) {
    if (limn_buffer_printf(out, error, "    \"%s\": [\n      ", key) || write_token(out, self, (size_t)id, error)) return -1;
    return limn_buffer_printf(out, error, ",\n      %d\n    ],\n", (int)id);
}

/* RobertaProcessing with the two tokens, or else what the file said that was read. */
static int write_processor(limn_buffer *out, const tokenizer *self, limn_error *error) {
    if (self->processor) return limn_buffer_printf(out, error, "  \"post_processor\": %s,\n", self->processor);
    if (limn_buffer_printf(out, error, "  \"post_processor\": {\n    \"type\": \"RobertaProcessing\",\n") ||
        write_boundary(out, self, "sep", self->after.items[0], error) ||
        write_boundary(out, self, "cls", self->before.items[0], error))
        return -1;
    return limn_buffer_printf(out, error, "    \"trim_offsets\": true,\n    \"add_prefix_space\": %s\n  },\n",
                              json_bool(self->add_prefix_space));
}

/* ---------------------------------------------------------------- the files */

static int write_json(limn_buffer *out, const tokenizer *self, limn_error *error) {
    if (limn_buffer_printf(
            out, error, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [") ||
        write_added(out, self, error) ||
        limn_buffer_printf(out, error,
                           "  \"normalizer\": null,\n"
                           "  \"pre_tokenizer\": {\n    \"type\": \"ByteLevel\",\n    \"add_prefix_space\": %s,\n"
                           "    \"trim_offsets\": true,\n    \"use_regex\": %s\n  },\n",
                           json_bool(self->add_prefix_space), json_bool(self->use_regex)) ||
        write_processor(out, self, error) ||
        limn_buffer_printf(out, error,
                           "  \"decoder\": {\n    \"type\": \"ByteLevel\",\n    \"add_prefix_space\": true,\n"
                           "    \"trim_offsets\": true,\n    \"use_regex\": true\n  },\n"
                           "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
                           "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
                           "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n%s    \"vocab\": {",
                           self->ignore_merges ? "    \"ignore_merges\": true,\n" : "") ||
        write_vocabulary(out, self, "\n      ", ": ", error) || limn_buffer_printf(out, error, "\n    },\n    \"merges\": ["))
        return -1;
    for (size_t i = 0; i < self->merges.count; i++)
        if (limn_buffer_printf(out, error, "%s\n      ", i ? "," : "") ||
            write_string(out, string_list_at(&self->merges, i), string_list_size_at(&self->merges, i), error))
            return -1;
    return limn_buffer_printf(out, error, "%s]\n  }\n}", self->merges.count ? "\n    " : "");
}

static bool is_named(const tokenizer *self, int32_t id, const char *name) {
    return strcmp(string_list_at(&self->texts, (size_t)id), name) == 0;
}

/* special_tokens_map.json, where the three tokens are not called as they are when nothing says so. */
static int save_names(const tokenizer *self, const char *directory, limn_error *error) {
    static const char *const keys[] = {"bos_token", "eos_token", "pad_token"};
    const int32_t ids[] = {self->bos, self->eos, self->pad};
    char path[PATH_MAX];
    limn_buffer out = {0};
    if (limn_path_join(path, sizeof path, directory, "special_tokens_map.json", error)) return -1;
    if (is_named(self, self->bos, "<s>") && is_named(self, self->eos, "</s>") && is_named(self, self->pad, "<pad>") &&
        !limn_file_exists(path))
        return 0;
    int status = limn_buffer_printf(&out, error, "{");
    for (size_t i = 0; i < 3 && status == 0; i++) {
        status = limn_buffer_printf(&out, error, "%s\n  \"%s\": ", i ? "," : "", keys[i]);
        if (status == 0) status = write_token(&out, self, (size_t)ids[i], error);
    }
    if (status == 0) status = limn_buffer_printf(&out, error, "\n}\n");
    if (status == 0) status = limn_atomic_write(path, out.data, out.size, error);
    limn_buffer_free(&out);
    return status;
}

/* tokenizer.json comes last: where it is, the other two are. */
int tokenizer_save(const tokenizer *self, const char *directory, limn_error *error) {
    static const char *const names[3] = {"vocab.json", "merges.txt", "tokenizer.json"};
    limn_buffer out[3] = {{0}};
    char path[PATH_MAX];
    int status = limn_make_directories(directory, error);
    if (status == 0)
        status = limn_buffer_printf(&out[0], error, "{") || write_vocabulary(&out[0], self, "", ":", error) ||
                 limn_buffer_printf(&out[0], error, "}") || limn_buffer_printf(&out[1], error, "#version: 0.2\n");
    for (size_t i = 0; i < self->merges.count && status == 0; i++)
        status = limn_buffer_printf(&out[1], error, "%s\n", string_list_at(&self->merges, i));
    if (status == 0) status = write_json(&out[2], self, error);
    if (status == 0) status = save_names(self, directory, error);
    for (size_t i = 0; i < 3; i++) {
        if (status == 0) status = limn_path_join(path, sizeof path, directory, names[i], error);
        if (status == 0) status = limn_atomic_write(path, out[i].data, out[i].size, error);
        limn_buffer_free(&out[i]);
    }
    return status ? -1 : 0;
}
