/* Hostile input for readers. A fuzz program is a seed maker, a target and
 *
 *     int main(int argc, char **argv) { return fuzz_main(argc, argv, make_seed, target); }
 *
 * Run without files it makes mutations of its seeds and gives each to the target, in a child process: a crash, a failed
 * sanitizer, a complaint of the target's, a hang of 20 seconds or more than 2 GiB of memory fails the run and is named with the
 * command that repeats it. Run with files, it gives these to the target as they are.
 *
 *     fuzz-tar [--count N] [--seconds S] [--seed N] [FILES]        1000 mutations unless told otherwise
 *
 * Two makers of mutations, chosen when it is built:
 * - mutations.c, in every build and thus under ctest: bits, bytes, numbers, lengths, pieces cut out, doubled, swapped between
 *   seeds; all a function of --seed and the number of the mutation. `--from N` begins at mutation N.
 * - libfuzzer.c, in the preset fuzz: LLVM's libFuzzer, which keeps what reaches new code. `--corpus DIR` keeps that for the
 * next run; a finding is written to `--findings DIR` (here unless given).
 *
 * A new one: tests/fuzz/NAME_fuzz.c and a line in tests/fuzz/CMakeLists.txt. */
#ifndef LIMN_TESTS_FUZZ_H
#define LIMN_TESTS_FUZZ_H

#include "core/core.h"

/* Appends the valid input number `index` to the empty buffer; false when there is no such number. The first must exist. */
typedef bool (*fuzz_seed_maker)(size_t index, limn_buffer *out);

/* Reads the input, with every function of the reader that a program would call, and frees what it got. That the reader refuses
 * it is fine. Returns NULL, or what is wrong (an error without a sentence; something accepted that must not be). */
typedef const char *(*fuzz_target)(const char *data, size_t size);

int fuzz_main(int argc, char **argv, fuzz_seed_maker make_seed, fuzz_target target);

/* Writes the input to a file of this name in the run's own folder, for readers that take a path. The text lives until the next
 * call. */
const char *fuzz_file(const char *name, const char *data, size_t size);

/* What the target returns for a refusal: NULL when the error says something in one line, else a complaint. */
const char *fuzz_check_error(const limn_error *error);

#endif
