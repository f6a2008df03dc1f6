/* eval: measures what a model draws. */
#ifndef LIMN_EVAL_H
#define LIMN_EVAL_H

#include "core/core.h"
#include "infer/infer.h"

/* Recall of pictures: each caption is drawn once, and the drawing's nearest picture (mean squared difference of pixels) is looked
 * for among all pictures of a gallery. A hit is when that is the caption's own. */
typedef struct {
    const char *model;     /* model folder */
    limn_strings captions; /* tars whose captions are drawn: files, folders or patterns */
    limn_strings gallery;  /* tars with the other pictures to choose among */
    size_t limit;          /* captions drawn, chosen at random by the seed; 0: all */
    const char *sheet;     /* PNG with own picture, drawing, nearest picture of each caption; NULL: none */
    sampling_options sampling; /* count is not used */
} recall_options;

typedef struct {
    size_t captions, gallery; /* drawn; pictures to choose among */
    size_t hits, hits_of_5;   /* own picture is the nearest; among the nearest five */
    double psnr;              /* mean, of drawing against own picture */
} recall_result;

/* Captions that stand for more than one picture count as hit by any of these. */
int eval_recall(const recall_options *options, recall_result *result, limn_error *error);

/* Writes each picture beside what the VQGAN in `directory` makes of it to the PNG `sheet`, and a line "path<tab>PSNR dB" for each and
 * for the mean to `out`. Pictures are cropped and resized to the model's size. */
int eval_reconstruct(const char *directory, const limn_strings *paths, const char *sheet, FILE *out, limn_error *error);

#endif
