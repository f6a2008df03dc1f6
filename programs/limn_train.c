/* limn-train: trains the seq2seq model on token shards. */
#include "nn/nn.h"
#include "train/train.h"

#include <string.h>

static const limn_program PROGRAM = {
    .name = "limn-train",
    .summary = "Trains the model that turns captions into picture tokens. The same command goes on where it stopped.",
    .examples =
        "$ limn-train --config configs/emoji-small.json --data tokens/train --valid tokens/valid --tokenizer tokenizer \\\n"
        "             --vqgan vqgan/model --output run\n"
        "      trains, with checkpoints under run/checkpoints, figures for TensorBoard and in run/metrics.jsonl; run/model is "
        "the newest\n"
        "$ limn-train --plan --config configs/mini.json --set train.seq2seq.precision=bf16\n"
        "      what that needs: weights, gradients, optimizer, activations, and the largest batch for this machine\n"
        "$ limn-train … --minutes 5\n"
        "      as many steps as fit in five minutes on this machine\n"
        "$ limn-train … --force --set train.seq2seq.learning_rate=1e-4\n"
        "      goes on with another learning rate\n"
        "$ limn-train … --init run/model --output tuned --set train.seq2seq.learning_rate=1e-5\n"
        "      starts from trained weights, with another learning rate; their configuration holds where the file has no section seq2seq\n"
        "$ limn-train … --init mini --output tuned --train embed_tokens,lm_head\n"
        "      trains the embeddings and the last layer alone\n"
        "$ limn-train … --init mini --output tuned --set train.seq2seq.lora_rank=16\n"
        "      LoRA adapters beside frozen weights; limn-convert tuned/model merged makes one model of both\n",
};

static bool asks_for_plan(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--plan") == 0) return true;
    return false;
}

/* Without data: of all options only those that say what is trained. */
static int plan(int argc, char **argv, limn_error *error) {
    train_options train = {0};
    bool planned = false, json = false;
    const limn_option options[] = {
        {"plan", LIMN_OPTION_FLAG, &planned, NULL, "prints what the training needs of this machine, and ends", true},
        {"config", LIMN_OPTION_STRING, &train.config, "FILE", "JSON or YAML with the sections seq2seq and train.seq2seq", true},
        {"train", LIMN_OPTION_STRING, &train.train, "NAMES", "these parts alone would be trained", false},
        {"set", LIMN_OPTION_STRINGS, &train.set, "KEY=VALUE", "changes the configuration, as in train.seq2seq.batch_size=16", false},
        {"json", LIMN_OPTION_FLAG, &json, NULL, "prints it as JSON", false},
        {NULL},
    };
    int status = limn_options_parse(&PROGRAM, options, argc, argv, NULL, error);
    if (status == 0) status = train_plan(&train, json, error);
    limn_strings_free(&train.set);
    return status < 0 ? -1 : 0;
}

static int run(int argc, char **argv, limn_error *error) {
    if (asks_for_plan(argc, argv)) return plan(argc, argv, error);
    bool planned = false; /* for --help; what asks for it has gone another way */
    train_options train = {0};
    const limn_option options[] = {
        {"config", LIMN_OPTION_STRING, &train.config, "FILE", "JSON or YAML with the sections seq2seq and train.seq2seq", true},
        {"data", LIMN_OPTION_STRINGS, &train.data, "SHARDS", "token shards or JSON lines: files, folders or patterns", true},
        {"valid", LIMN_OPTION_STRINGS, &train.valid, "[NAME=]SHARDS", "the same, kept from training for valid_loss; NAME= makes a "
         "set of its own with valid_loss_NAME", false},
        {"tokenizer", LIMN_OPTION_STRING, &train.tokenizer, "DIR", "folder that limn-tokenizer train wrote", true},
        {"vqgan", LIMN_OPTION_STRING, &train.vqgan, "DIR", "model folder of the VQGAN that made the shards", true},
        {"output", LIMN_OPTION_STRING, &train.output, "RUN", "run folder", true},
        {"init", LIMN_OPTION_STRING, &train.init, "MODEL", "model folder to start from instead of random weights", false},
        {"train", LIMN_OPTION_STRING, &train.train, "NAMES", "trains these parts alone, as in decoder.embed_tokens,lm_head; the rest stays "
         "as --init has it", false},
        {"set", LIMN_OPTION_STRINGS, &train.set, "KEY=VALUE", "changes the configuration, as in train.seq2seq.batch_size=16", false},
        {"backend", LIMN_OPTION_STRING, &train.backend, "NAME", "who multiplies: auto, limn, onednn or openblas", false},
        {"steps", LIMN_OPTION_SIZE, &train.steps, "N", "number of steps, instead of the configuration's", false},
        {"minutes", LIMN_OPTION_FLOAT, &train.minutes, "M", "at most as many steps as fit in this time on this machine", false},
        {"plan", LIMN_OPTION_FLAG, &planned, NULL, "only prints what the training needs of this machine; of the other options it takes "
         "config, set and train, and --json, which prints it as JSON", false},
        {"restart", LIMN_OPTION_FLAG, &train.restart, NULL, "throws away what the run folder holds", false},
        {"force", LIMN_OPTION_FLAG, &train.force, NULL, "goes on with a changed configuration", false},
        {NULL},
    };
    int status = limn_options_parse(&PROGRAM, options, argc, argv, NULL, error);
    if (status == 0) status = train_seq2seq(&train, error);
    limn_strings_free(&train.set);
    limn_strings_free(&train.data);
    limn_strings_free(&train.valid);
    return status < 0 ? -1 : 0;
}

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    return limn_main(argc, argv, run);
}
