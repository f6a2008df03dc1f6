/* What decides a run of limn-vqgan train: the section `train.vqgan`, and where the model begins. Internal to train/. */
#ifndef LIMN_TRAIN_VQGAN_SETTINGS_H
#define LIMN_TRAIN_VQGAN_SETTINGS_H

#include "train/loop.h"
#include "vqgan/vqgan.h"

typedef struct {
    train_settings generator;
    double discriminator_learning_rate; /* all else of the discriminator's is the generator's, but no moving average is kept */
    vqgan_loss_options losses;          /* without the LPIPS itself */
    size_t discriminator_start, discriminator_layers, discriminator_width, revive_every;
    double codebook_start_share; /* share of all steps that go without a codebook, so that the latents have learnt what there is
                                  * to tell apart */
    double revive_threshold;     /* uses of a code in the last batches (decayed), as a share of the mean code's */
} vqgan_settings;

int vqgan_settings_read(vqgan_settings *settings, const json_t *config, const train_options *options, limn_error *error);

/* The model to train: of the configuration's section `vqgan` with random weights or, with --init, of that folder's
 * configuration, with which the section, where there is one, must agree. *out_section gets the whole configuration, to be saved
 * with the run. */
vqgan *vqgan_begin(const json_t *config, const train_options *options, uint64_t seed, json_t **out_section, limn_error *error);

#endif
