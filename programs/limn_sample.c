/* limn-sample: draws pictures for sentences. */
#include "infer/infer.h"
#include "nn/nn.h"

static int run(int argc, char **argv, limn_error *error) {
    drawing_job job = {.sampling = {.count = 9, .guidance = 10, .temperature = 1, .top_p = 1}};
    const char *precision = "fp32", *backend = "auto";
    const limn_program program = {
        .name = "limn-sample",
        .summary = "Draws pictures for a sentence, or for every line of a file.",
        .examples =
            "$ limn-sample --model model --prompt 'a red apple' --output apple.png\n"
            "    nine drawings in one 3x3 picture\n"
            "$ limn-sample --model model --prompts sentences.txt --output drawings --top-k 200 --tokens-out tokens.jsonl\n"
            "    one picture for each line; run again, it goes on with the lines that are not drawn yet",
    };
    const limn_option options[] = {
        {"model", LIMN_OPTION_STRING, &job.model, "DIR", "model folder, with its tokenizer and vqgan/", true},
        {"prompt", LIMN_OPTION_STRING, &job.prompt, "TEXT", "what to draw", false},
        {"prompts", LIMN_OPTION_STRING, &job.prompts, "FILE", "a prompt on each line; --output is a folder then", false},
        {"output", LIMN_OPTION_STRING, &job.output, "PATH", "a PNG file for one prompt, a folder for several", true},
        {"count", LIMN_OPTION_SIZE, &job.sampling.count, "N", "drawings of each prompt", false},
        {"seed", LIMN_OPTION_SEED, &job.sampling.seed, "N", "the same seed (and --threads) draws the same", false},
        {"guidance", LIMN_OPTION_FLOAT, &job.sampling.guidance, "S",
         "how much the prompt counts against none at all; 1: not at all more", false},
        {"top-k", LIMN_OPTION_SIZE, &job.sampling.top_k, "K", "draw among the K most likely tokens; 0: all", false},
        {"top-p", LIMN_OPTION_FLOAT, &job.sampling.top_p, "P",
         "draw among the most likely tokens that together reach this share", false},
        {"temperature", LIMN_OPTION_FLOAT, &job.sampling.temperature, "T", "below 1: safer; 0: always the most likely token",
         false},
        {"precision", LIMN_OPTION_STRING, &precision, "P",
         "fp32: as it was trained; bf16: nearly twice as fast; int8: faster still, with a quarter of the memory for weights", false},
        {"backend", LIMN_OPTION_STRING, &backend, "NAME", "who multiplies: auto, limn, onednn or openblas", false},
        {"tokens-out", LIMN_OPTION_STRING, &job.tokens_out, "FILE", "also write the tokens, a JSON line for each prompt",
         false},
        {"singles", LIMN_OPTION_STRING, &job.singles, "DIR", "also write every drawing as a picture of its own", false},
        {"preview-every", LIMN_OPTION_SIZE, &job.preview_every, "N",
         "show what is drawn after every N tokens, in --output; for --prompts in preview.png there", false},
        {"restart", LIMN_OPTION_FLAG, &job.restart, NULL, "draw again what an earlier run has drawn", false},
        {0},
    };
    int parsed = limn_options_parse(&program, options, argc, argv, NULL, error);
    if (parsed) return parsed < 0 ? -1 : 0;
    if (!job.prompt == !job.prompts) return limn_fail_usage(error, "one of --prompt TEXT and --prompts FILE is needed");
    if (nn_precision_parse(&job.precision, precision, error) || nn_choose_backend(backend, job.precision, error)) return -1;
    return draw_job(&job, stdout, error);
}

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    return limn_main(argc, argv, run);
}
