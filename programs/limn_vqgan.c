/* limn-vqgan: trains the picture tokenizer, and shows what it makes of pictures. */
#include "eval/eval.h"
#include "infer/infer.h"
#include "nn/nn.h"
#include "train/train.h"

static const limn_program TRAIN = {
    .name = "limn-vqgan train",
    .summary = "Trains a VQGAN on the pictures of WebDataset tars. The same command goes on where it stopped.",
    .examples = "$ limn-vqgan train --data pictures --config configs/emoji-small.json --output vqgan\n"
                "      trains, with figures in vqgan/metrics.jsonl and originals beside reconstructions in vqgan/samples\n"
                "$ limn-vqgan train … --valid pictures-kept --minutes 6\n"
                "      as many steps as fit in six minutes; reports the PSNR of pictures it is not trained on\n"
                "$ limn-vqgan train … --init model/vqgan --train decoder,post_quant_conv --output tuned\n"
                "      goes on from a trained model; encoder and codebook stay as they are, bit for bit, so that tokens made with them\n"
                "      stay valid. The configuration's section vqgan may be left out\n"
                "$ limn-vqgan train … --lpips-vgg vgg16-397923af.pth --lpips-heads vgg.pth\n"
                "      with the perceptual loss LPIPS, times train.vqgan.perceptual_weight (1)\n",
};

static int train(int argc, char **argv, limn_error *error) {
    train_options given = {0};
    const limn_option options[] = {
        {"config", LIMN_OPTION_STRING, &given.config, "FILE", "JSON or YAML with the sections vqgan and train.vqgan", true},
        {"data", LIMN_OPTION_STRINGS, &given.data, "TARS", "WebDataset tars: files, folders or patterns", true},
        {"valid", LIMN_OPTION_STRINGS, &given.valid, "TARS", "tars kept from training, for the validation PSNR", false},
        {"output", LIMN_OPTION_STRING, &given.output, "RUN", "run folder", true},
        {"init", LIMN_OPTION_STRING, &given.init, "MODEL",
         "model folder to start from instead of random weights; its codebook is neither placed anew nor has codes revived unless --set "
         "asks for train.vqgan.codebook_start or revive_every", false},
        {"train", LIMN_OPTION_STRING, &given.train, "NAMES",
         "trains these parts alone, by parts of names: encoder, quant_conv, quantize, post_quant_conv, decoder, decoder.up.0 …; "
         "while the first three stay, so do tokens", false},
        {"lpips-vgg", LIMN_OPTION_STRING, &given.lpips_vgg, "FILE", "torchvision's vgg16-397923af.pth, for the perceptual loss", false},
        {"lpips-heads", LIMN_OPTION_STRING, &given.lpips_heads, "FILE", "LPIPS' vgg.pth, its five linear heads", false},
        {"set", LIMN_OPTION_STRINGS, &given.set, "KEY=VALUE", "changes the configuration, as in train.vqgan.batch_size=16", false},
        {"steps", LIMN_OPTION_SIZE, &given.steps, "N", "number of steps, instead of the configuration's", false},
        {"minutes", LIMN_OPTION_FLOAT, &given.minutes, "M", "at most as many steps as fit in this time on this machine", false},
        {"restart", LIMN_OPTION_FLAG, &given.restart, NULL, "throws away what the run folder holds", false},
        {"force", LIMN_OPTION_FLAG, &given.force, NULL, "goes on with a changed configuration", false},
        {NULL},
    };
    int status = limn_options_parse(&TRAIN, options, argc, argv, NULL, error);
    if (status == 0) status = train_vqgan(&given, error);
    limn_strings_free(&given.set);
    limn_strings_free(&given.data);
    limn_strings_free(&given.valid);
    return status < 0 ? -1 : 0;
}

static const limn_program RECONSTRUCT = {
    .name = "limn-vqgan reconstruct",
    .summary = "Writes each picture beside what the VQGAN makes of it, and says how near it is.",
    .examples = "$ limn-vqgan reconstruct --model vqgan/model cat.jpg dog.png --output both.png\n"
                "      originals and reconstructions in one sheet; the PSNR of each on stdout\n",
    .positional = "PICTURE…",
};

static int reconstruct(int argc, char **argv, limn_error *error) {
    const char *directory = NULL, *output = NULL;
    limn_strings paths = {0};
    const limn_option options[] = {
        {"model", LIMN_OPTION_STRING, &directory, "DIR", "model folder of a VQGAN", true},
        {"output", LIMN_OPTION_STRING, &output, "FILE.png", "the sheet to write", true},
        {NULL},
    };
    int status = limn_options_parse(&RECONSTRUCT, options, argc, argv, &paths, error);
    if (status == 0 && !paths.count) status = limn_fail_usage(error, "give at least one picture");
    if (status == 0) status = eval_reconstruct(directory, &paths, output, stdout, error);
    limn_strings_free(&paths);
    return status < 0 ? -1 : 0;
}

static const limn_program ENCODE = {
    .name = "limn-vqgan encode",
    .summary = "Turns pictures into tokens, a JSON line for each; whole data sets are limn-encode's job.",
    .examples = "$ limn-vqgan encode --model vqgan/model cat.jpg dog.png --output tokens.jsonl\n",
    .positional = "PICTURE…",
};

static int encode(int argc, char **argv, limn_error *error) {
    const char *directory = NULL, *output = NULL;
    limn_strings paths = {0};
    const limn_option options[] = {
        {"model", LIMN_OPTION_STRING, &directory, "DIR", "model folder of a VQGAN", true},
        {"output", LIMN_OPTION_STRING, &output, "FILE.jsonl", "lines {\"picture\": …, \"tokens\": [[…]]}", true},
        {NULL},
    };
    int status = limn_options_parse(&ENCODE, options, argc, argv, &paths, error);
    if (status == 0 && !paths.count) status = limn_fail_usage(error, "give at least one picture");
    if (status == 0) status = tokens_encode(directory, &paths, output, error);
    limn_strings_free(&paths);
    return status < 0 ? -1 : 0;
}

static const limn_program DECODE = {
    .name = "limn-vqgan decode",
    .summary = "Draws tokens: limn-sample's --tokens-out, encode's, or any program's JSON lines of token numbers.",
    .examples = "$ limn-vqgan decode --model model/vqgan tokens.jsonl --output drawings\n"
                "      a picture for each line, its drawings side by side\n"
                "$ limn-vqgan decode --model model/vqgan apple.jsonl --output apple.png --singles apples\n",
    .positional = "TOKENS.jsonl…",
};

static int decode(int argc, char **argv, limn_error *error) {
    const char *directory = NULL, *output = NULL, *singles = NULL;
    limn_strings paths = {0};
    const limn_option options[] = {
        {"model", LIMN_OPTION_STRING, &directory, "DIR", "model folder of a VQGAN", true},
        {"output", LIMN_OPTION_STRING, &output, "PATH", "a PNG file for one line, a folder for several", true},
        {"singles", LIMN_OPTION_STRING, &singles, "DIR", "also write every drawing as a picture of its own", false},
        {NULL},
    };
    int status = limn_options_parse(&DECODE, options, argc, argv, &paths, error);
    if (status == 0 && !paths.count) status = limn_fail_usage(error, "give at least one file of tokens");
    if (status == 0) status = tokens_decode(directory, &paths, output, singles, stdout, error);
    limn_strings_free(&paths);
    return status < 0 ? -1 : 0;
}

int main(int argc, char **argv) {
    static const limn_subcommand SUBCOMMANDS[] = {
        {"train", "trains on the pictures of WebDataset tars", train},
        {"reconstruct", "writes pictures beside their reconstructions", reconstruct},
        {"encode", "turns pictures into tokens", encode},
        {"decode", "draws tokens", decode},
        {NULL, NULL, NULL},
    };
    nn_prepare_threads(argv);
    return limn_main_subcommands(argc, argv, "The picture tokenizer: pictures to tokens and back.", SUBCOMMANDS);
}
