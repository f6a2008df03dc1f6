/* limn-eval: measures what a model draws. */
#include "eval/eval.h"
#include "nn/nn.h"

static const limn_program RECALL = {
    .name = "limn-eval recall",
    .summary = "Draws captions and looks for each drawing's nearest picture: how often is it the caption's own?",
    .examples = "$ limn-eval recall --model run/model --captions pictures --limit 100 --sheet recall.png\n"
                "      100 captions seen in training; in recall.png own picture, drawing and nearest picture of each\n"
                "$ limn-eval recall --model run/model --captions pictures-kept --gallery pictures\n"
                "      captions kept from training, among all pictures\n",
};

static int recall(int argc, char **argv, limn_error *error) {
    recall_options given = {.sampling = {.guidance = 10, .temperature = 1, .top_p = 1, .seed = 1}};
    limn_strings captions = {0}, gallery = {0};
    bool json = false;
    const limn_option options[] = {
        {"model", LIMN_OPTION_STRING, &given.model, "DIR", "model folder", true},
        {"captions", LIMN_OPTION_STRINGS, &captions, "TARS", "tars whose captions are drawn: files, folders or patterns", true},
        {"gallery", LIMN_OPTION_STRINGS, &gallery, "TARS", "tars with more pictures to choose among", false},
        {"limit", LIMN_OPTION_SIZE, &given.limit, "N", "draw this many captions, chosen at random; all when left out", false},
        {"seed", LIMN_OPTION_SEED, &given.sampling.seed, "N", "of the choice and of the drawings", false},
        {"guidance", LIMN_OPTION_FLOAT, &given.sampling.guidance, "S", "how strongly the caption is followed; 1 is off", false},
        {"temperature", LIMN_OPTION_FLOAT, &given.sampling.temperature, "T", "0 takes the most likely token", false},
        {"top-k", LIMN_OPTION_SIZE, &given.sampling.top_k, "K", "only the K most likely tokens", false},
        {"top-p", LIMN_OPTION_FLOAT, &given.sampling.top_p, "P", "only the likeliest tokens that add up to P", false},
        {"sheet", LIMN_OPTION_STRING, &given.sheet, "FILE.png", "writes own picture, drawing and nearest picture of each", false},
        {"json", LIMN_OPTION_FLAG, &json, NULL, "the result as JSON", false},
        {NULL},
    };
    recall_result result;
    int status = limn_options_parse(&RECALL, options, argc, argv, NULL, error);
    if (status == 0) {
        given.captions = captions;
        given.gallery = gallery;
        status = eval_recall(&given, &result, error);
        if (status == 0 && json)
            printf("{\"captions\": %zu, \"gallery\": %zu, \"hits\": %zu, \"hits_of_5\": %zu, \"recall\": %.4f, \"psnr\": %.3f}\n",
                   result.captions, result.gallery, result.hits, result.hits_of_5, (double)result.hits / (double)result.captions,
                   result.psnr);
        else if (status == 0)
            printf("%zu of %zu drawings (%.0f %%) are nearest to their caption's own picture among %zu, %zu have it among the nearest "
                   "five; %.1f dB\n", result.hits, result.captions, 100.0 * (double)result.hits / (double)result.captions,
                   result.gallery, result.hits_of_5, result.psnr);
    }
    limn_strings_free(&captions);
    limn_strings_free(&gallery);
    return status < 0 ? -1 : 0;
}

int main(int argc, char **argv) {
    static const limn_subcommand SUBCOMMANDS[] = {
        {"recall", "how often a drawing's nearest picture is its caption's own", recall},
        {NULL, NULL, NULL},
    };
    nn_prepare_threads(argv);
    return limn_main_subcommands(argc, argv, "Measures what a model draws.", SUBCOMMANDS);
}
