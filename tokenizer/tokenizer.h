/* tokenizer: byte-level BPE (Radford and others, GPT-2; Sennrich and others, arXiv 1508.07909), its training, and the files
 * vocab.json, merges.txt and tokenizer.json of the Hugging Face world, whose tokenizers 0.13 decides what is right. */
#ifndef LIMN_TOKENIZER_H
#define LIMN_TOKENIZER_H

#include "core/core.h"

/* A longer text is no caption: encoding and training refuse it (bytes). */
enum { TOKENIZER_MAX_TEXT = 16 << 20 };
/* The smallest vocabulary: the special tokens <s> <pad> </s> <unk> <mask> (ids 0-4) and the 256 bytes (5-260). */
enum { TOKENIZER_SPECIALS = 5, TOKENIZER_BASE = TOKENIZER_SPECIALS + 256 };

/* In a model folder: the word-frequency file for splitting hashtags, under the name that DALL·E Mini publishes it. */
#define TEXT_NORMALIZER_WORDS "enwiki-words-frequency.txt"

typedef struct tokenizer tokenizer;
typedef struct text_normalizer text_normalizer;

/* A folder with tokenizer.json (merges as "a b" or ["a", "b"]), or with vocab.json and merges.txt. Beside them,
 * special_tokens_map.json and tokenizer_config.json may name bos_token, eos_token and pad_token (else <s>, </s>, <pad>), and
 * the latter may set add_prefix_space. Fails with one line that names the file when ids have gaps or come twice, a merge names
 * an unknown token, one of the 256 bytes or of the three special tokens is missing, or tokenizer.json asks for something else
 * than byte-level BPE. Truncation and padding that tokenizer.json may ask for are the caller's business here. */
tokenizer *tokenizer_load(const char *directory, limn_error *error);
/* Writes vocab.json, merges.txt and, last, tokenizer.json; and special_tokens_map.json where <s>, </s> and <pad> have other
 * names. */
int tokenizer_save(const tokenizer *self, const char *directory, limn_error *error);
void tokenizer_free(tokenizer *self); /* NULL allowed */
/* The tokenizer of a folder with further special tokens behind its vocabulary, into another folder, which must not hold one. */
int tokenizer_add_tokens(const char *directory, const limn_strings *texts, const char *output, limn_error *error);

size_t tokenizer_vocabulary_size(const tokenizer *self);
int32_t tokenizer_bos(const tokenizer *self); /* <s> */
int32_t tokenizer_eos(const tokenizer *self); /* </s> */
int32_t tokenizer_pad(const tokenizer *self); /* <pad> */
/* A token as vocab.json spells it, one printable character a byte; NULL when there is no such id. Borrowed. */
const char *tokenizer_token(const tokenizer *self, int32_t id);
/* "left right" of merge i in order; NULL past the end. Borrowed. */
const char *tokenizer_merge(const tokenizer *self, size_t i);

/* Text (any bytes) to ids, with what tokenizer.json's post_processor puts around them: <s> and </s> after our training, and for
 * vocab.json and merges.txt. ids is a growing array of the caller's (realloc; capacity kept in *capacity). add_prefix_space is
 * as the files say. Added tokens (<s>, <mask>, …) that stand in the text become their ids. Bytes that are not UTF-8 become
 * their own tokens, so decoding gives back every text without special tokens. Safe from many threads at once. */
int tokenizer_encode(const tokenizer *self, const char *text, size_t size, int32_t **ids, size_t *capacity, size_t *out_count,
                     limn_error *error);
/* The same into exactly `length` places: truncated so that </s> stays last, padded with <pad>; mask is 1 for text. There is
 * always a token before and behind the text: bos and eos where the post_processor has none. The text is led by a space when it
 * is neither empty nor has one already, as DALL·E Mini's processor does with its normalised captions. */
int tokenizer_encode_caption(const tokenizer *self, const char *text, size_t size, int32_t *ids, int32_t *mask, size_t length,
                             limn_error *error);
/* Ids to bytes, appended to `out`; special tokens are left out. An id outside the vocabulary is an error. */
int tokenizer_decode(const tokenizer *self, const int32_t *ids, size_t count, limn_buffer *out, limn_error *error);

/* The lines of a file (NULL: standard input) as JSON lines {"ids": [0, 1, 2]}, in their order, and back ({"ids": […]} or […] to
 * lines of text). A line ends with \n or \r\n. A line that cannot be turned ends it, with an error that has the line's number,
 * after all lines before it were written. Multi-threaded. */
int tokenizer_encode_lines(const tokenizer *self, const char *path, FILE *out, limn_error *error);
int tokenizer_decode_lines(const tokenizer *self, const char *path, FILE *out, limn_error *error);

/* Training: feed lines, then make merges until vocabulary_size or until no pair occurs min_frequency times; ties go to the pair
 * of smallest ids, as in Hugging Face tokenizers. */
typedef struct tokenizer_trainer tokenizer_trainer;
tokenizer_trainer *tokenizer_trainer_create(limn_error *error);
/* One text, as it is: no space is put before it. Words are counted by all threads; not to be called from several. */
int tokenizer_trainer_add(tokenizer_trainer *trainer, const char *text, size_t size, limn_error *error);
/* What was read from files. */
typedef struct {
    uint64_t captions, bytes;
    uint64_t not_utf8; /* of these captions; their bytes are learnt as they are */
    uint64_t too_long; /* left out: longer than TOKENIZER_MAX_TEXT */
} tokenizer_corpus;
/* The lines of a text file, as they are; or the .txt captions of a WebDataset .tar, each led by a space as
 * tokenizer_encode_caption does. Adds to *corpus; progress (NULL allowed) gets the captions read. */
int tokenizer_trainer_add_file(tokenizer_trainer *trainer, const char *path, tokenizer_corpus *corpus, limn_progress *progress,
                               limn_error *error);
/* From here on texts are normalised before they are learnt; the normaliser must live as long as the trainer. */
void tokenizer_trainer_normalize(tokenizer_trainer *trainer, const text_normalizer *normalizer);
/* Uses up what was added: call once. A vocabulary_size below TOKENIZER_BASE is a usage error. */
tokenizer *tokenizer_trainer_finish(tokenizer_trainer *trainer, size_t vocabulary_size, size_t min_frequency,
                                    limn_error *error);
void tokenizer_trainer_free(tokenizer_trainer *trainer); /* NULL allowed */

/* Normalising: captions to what DALL·E Mini's encoder was trained on, as its TextNormalizer does it: mojibake repaired, HTML
 * entities and tags, web addresses and Wikipedia's marks taken out, emoji named, everything in ASCII and lower case, hashtags
 * split into words, 's and 't kept, all other punctuation commas; led by a space. In one point it differs: what a single
 * <person> becomes (a person, someone, somebody) is decided by a hash of the caption and not by chance, so the same caption
 * always gives the same text. */
/* words_path: a list of words for splitting hashtags, UTF-8, "word count" on each line, the most frequent first (what comes
 * after the word is not looked at; words of more than 100 bytes are left out). NULL: hashtags fall into letters, as the
 * original's do when it knows no word. Fails when the file cannot be read, is empty or not UTF-8, or a line has no word. */
text_normalizer *text_normalizer_create(const char *words_path, limn_error *error);
/* Appends the normalised text, a line without its end, of any bytes: what is not UTF-8 counts as U+FFFD, as with Python's
 * errors="replace". A text above TOKENIZER_MAX_TEXT is an error. Safe from many threads at once. */
int text_normalize(const text_normalizer *self, const char *text, size_t size, limn_buffer *out, limn_error *error);
/* The lines of a file (NULL: standard input), normalised, in their order; ends and errors as in tokenizer_encode_lines. */
int text_normalize_lines(const text_normalizer *self, const char *path, FILE *out, limn_error *error);
void text_normalizer_free(text_normalizer *self); /* NULL allowed */

/* ---------------------------------------------------------------- captions */

/* What a model does with captions: where its config says normalize_text they are normalised, then encoded. */
typedef struct {
    tokenizer *tokenizer;
    text_normalizer *normalizer; /* NULL: captions are taken as they are */
} caption_encoder;
/* The tokenizer of a model folder, and its word frequencies when there are any. */
int caption_encoder_load(caption_encoder *self, const char *directory, bool normalize, limn_error *error);
/* Into exactly `length` places, as tokenizer_encode_caption. */
int caption_encoder_encode(const caption_encoder *self, const char *text, size_t size, int32_t *ids, int32_t *mask,
                           size_t length, limn_error *error);
/* The empty caption of guidance, which is never normalised: <s></s> and padding. */
int caption_encoder_encode_blank(const caption_encoder *self, int32_t *ids, int32_t *mask, size_t length, limn_error *error);
void caption_encoder_free(caption_encoder *self);

#endif
