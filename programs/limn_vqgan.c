/* limn-vqgan: trains the picture tokenizer, and shows what it makes of pictures. */
#include "nn/nn.h"
#include "pictures/pictures.h"
#include "train/train.h"
#include "vqgan/vqgan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const limn_program TRAIN = {
    .name = "limn-vqgan train",
    .summary = "Trains a VQGAN on the pictures of WebDataset tars. The same command goes on where it stopped.",
    .examples = "$ limn-vqgan train --data pictures --config configs/emoji-small.json --output vqgan\n"
                "      trains, with figures in vqgan/metrics.jsonl and originals beside reconstructions in vqgan/samples\n"
                "$ limn-vqgan train … --valid pictures-kept --minutes 6\n"
                "      as many steps as fit in six minutes; reports the PSNR of pictures it is not trained on\n",
};

static int train(int argc, char **argv, limn_error *error) {
    train_options given = {0};
    limn_strings set = {0}, data = {0}, valid = {0};
    const limn_option options[] = {
        {"config", LIMN_OPTION_STRING, &given.config, "FILE", "JSON or YAML with the sections vqgan and train.vqgan", true},
        {"data", LIMN_OPTION_STRINGS, &data, "TARS", "WebDataset tars: files, folders or patterns", true},
        {"valid", LIMN_OPTION_STRINGS, &valid, "TARS", "tars kept from training, for the validation PSNR", false},
        {"output", LIMN_OPTION_STRING, &given.output, "RUN", "run folder", true},
        {"init", LIMN_OPTION_STRING, &given.init, "MODEL", "model folder to start from instead of random weights", false},
        {"set", LIMN_OPTION_STRINGS, &set, "KEY=VALUE", "changes the configuration, as in train.vqgan.batch_size=16", false},
        {"steps", LIMN_OPTION_SIZE, &given.steps, "N", "number of steps, instead of the configuration's", false},
        {"minutes", LIMN_OPTION_FLOAT, &given.minutes, "M", "at most as many steps as fit in this time on this machine", false},
        {"restart", LIMN_OPTION_FLAG, &given.restart, NULL, "throws away what the run folder holds", false},
        {NULL},
    };
    int status = limn_options_parse(&TRAIN, options, argc, argv, NULL, error);
    if (status == 0) {
        given.set = set;
        given.data = data;
        given.valid = valid;
        status = train_vqgan(&given, error);
    }
    limn_strings_free(&set);
    limn_strings_free(&data);
    limn_strings_free(&valid);
    return status < 0 ? -1 : 0;
}

static const limn_program RECONSTRUCT = {
    .name = "limn-vqgan reconstruct",
    .summary = "Writes each picture beside what the VQGAN makes of it, and says how near it is.",
    .examples = "$ limn-vqgan reconstruct --model vqgan/model cat.jpg dog.png --output both.png\n"
                "      originals and reconstructions in one sheet; the PSNR of each on stdout\n",
    .positional = "PICTURE…",
};

/* One picture through the model: original and reconstruction, both of the model's size. */
static int reconstruct_one(const vqgan *model, const char *path, picture *original, picture *drawn, limn_arena *arena,
                           limn_error *error) {
    size_t side = vqgan_get_config(model)->resolution, n = side * side * 3;
    picture loaded;
    if (picture_load(&loaded, path, error)) return -1;
    int status = picture_resize(&loaded, original, RESIZE_CENTER_CROP, side, error);
    picture_free(&loaded);
    if (status) return limn_fail_context(error, "%s", path);
    float *pixels = limn_arena_floats(arena, n);
    int32_t *tokens = limn_arena_bytes(arena, vqgan_token_count(model) * sizeof *tokens);
    picture_to_floats(original, pixels);
    vqgan_pixels_to_model(model, pixels, pixels, n);
    vqgan_encode(model, tokens, NULL, pixels, 1, arena);
    vqgan_decode(model, pixels, tokens, 1, arena);
    vqgan_pixels_from_model(model, pixels, pixels, n);
    status = picture_from_floats(drawn, pixels, side, side, error);
    limn_arena_release(arena, 0);
    if (status) picture_free(original);
    return status;
}

static int write_sheet(const picture *parts, size_t count, const char *output, limn_error *error) {
    picture sheet;
    if (picture_grid(&sheet, parts, count, count < 8 ? count : 8, 2, error)) return -1;
    int status = picture_save_png(&sheet, output, error);
    picture_free(&sheet);
    return status;
}

static int reconstruct_all(const char *directory, const limn_strings *paths, const char *output, limn_error *error) {
    vqgan *model = vqgan_load(directory, false, error);
    limn_arena *arena = model ? limn_arena_create((size_t)1 << 38, error) : NULL;
    picture *parts = arena ? limn_allocate(paths->count * 2, sizeof *parts, error) : NULL;
    double sum = 0;
    size_t done = 0;
    int status = parts ? 0 : -1;
    for (; status == 0 && done < paths->count; done++) {
        status = reconstruct_one(model, paths->items[done], &parts[2 * done], &parts[2 * done + 1], arena, error);
        if (status) break;
        double psnr = picture_psnr(&parts[2 * done], &parts[2 * done + 1]);
        sum += psnr;
        printf("%s\t%.2f dB\n", paths->items[done], psnr);
    }
    if (status == 0) printf("mean of %zu\t%.2f dB\n", done, sum / (double)done);
    if (status == 0) status = write_sheet(parts, 2 * done, output, error);
    for (size_t i = 0; i < 2 * done; i++) picture_free(&parts[i]);
    free(parts);
    limn_arena_destroy(arena);
    vqgan_free(model);
    return status;
}

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
    if (status == 0) status = reconstruct_all(directory, &paths, output, error);
    limn_strings_free(&paths);
    return status < 0 ? -1 : 0;
}

int main(int argc, char **argv) {
    static const limn_subcommand SUBCOMMANDS[] = {
        {"train", "trains on the pictures of WebDataset tars", train},
        {"reconstruct", "writes pictures beside their reconstructions", reconstruct},
        {NULL, NULL, NULL},
    };
    nn_prepare_threads(argv);
    return limn_main_subcommands(argc, argv, "The picture tokenizer: pictures to tokens and back.", SUBCOMMANDS);
}
