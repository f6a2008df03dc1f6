/* limn-convert: published weights to a model folder, and a model folder to what the original code loads. */
#include "convert/convert.h"
#include "nn/nn.h"

#include <string.h>

static const limn_program CONVERT = {
    .name = "limn-convert",
    .summary =
        "Turns weights of DALL·E Mini or of a VQGAN from any of their forms into a model folder, or into what dalle-mini, "
        "min-dalle and taming-transformers load. What SOURCE is, it finds out by itself: a folder or file of Flax, PyTorch "
        "(.ckpt, .pt, .pth, .bin; pickles are read, never executed) or safetensors, whole or in shards.",
    .examples =
        "$ limn-convert dalle-mini model --vqgan vqgan_imagenet_f16_16384\n"
        "      the published Flax folders; then: limn-sample --model model --prompt 'a red apple' --output apple.png\n"
        "$ limn-convert logs/my_vqgan vqgan --pixel-range=-1,1\n"
        "      taming-transformers' checkpoint with its YAML\n"
        "$ limn-convert run/model for-flax --to flax\n"
        "$ limn-convert run/model for-pytorch --to pytorch\n"
        "      encoder.pt, decoder.pt and vqgan/detoker.pt for min-dalle, vqgan/model.ckpt and config.yaml for taming\n",
    .positional = "SOURCE MODEL_DIR",
};

static int run(int argc, char **argv, limn_error *error) {
    convert_options options = {0};
    limn_strings paths = {0};
    const char *to = "safetensors", *precision = "fp32";
    const limn_option table[] = {
        {"vqgan", LIMN_OPTION_STRING, &options.vqgan, "SOURCE",
         "the VQGAN to put beside the model; SOURCE's own when not given", false},
        {"to", LIMN_OPTION_STRING, &to, "safetensors|flax|pytorch", "the form to write; safetensors is our model folder",
         false},
        {"pixel-range", LIMN_OPTION_STRING, &options.pixel_range, "0,1|-1,1",
         "the pixels that the VQGAN was trained on, where its config does not say: Flax's are taken for 0,1, taming's for -1,1",
         false},
        {"precision", LIMN_OPTION_STRING, &precision, "fp32|bf16", "how weights are stored", false},
        {"scan", LIMN_OPTION_STRING, &options.scan, "yes|no",
         "with --to flax: layers stacked or apart; as the config says when not given", false},
        {"restart", LIMN_OPTION_FLAG, &options.restart, NULL, "replaces what MODEL_DIR holds", false},
        {0},
    };
    int status = limn_options_parse(&CONVERT, table, argc, argv, &paths, error);
    if (status == 0 && paths.count != 2)
        status = limn_fail_usage(error, "give a SOURCE and a MODEL_DIR, not %zu names", paths.count);
    if (status == 0) {
        options.source = paths.items[0];
        options.output = paths.items[1];
        options.bf16 = strcmp(precision, "bf16") == 0;
        options.to = strcmp(to, "flax") == 0      ? CONVERT_FLAX
                     : strcmp(to, "pytorch") == 0 ? CONVERT_PYTORCH
                                                  : CONVERT_SAFETENSORS;
        if (options.scan && options.to != CONVERT_FLAX)
            status = limn_fail_usage(error, "--scan goes with --to flax; no other form stacks layers");
    }
    if (status == 0) status = convert_model(&options, error);
    limn_strings_free(&paths);
    return status < 0 ? -1 : 0;
}

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    return limn_main(argc, argv, run);
}
