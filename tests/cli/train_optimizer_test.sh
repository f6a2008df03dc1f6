# A run decides its optimizer; with each of them a run that is stopped and gone on with ends with the same bits, and the moving average of
# the weights is a model of its own.
. "$(dirname "$0")/support.sh"
make_tokens --steps 5 --set train.vqgan.ema_decay=0.9
cmp -s vqgan/model/model.safetensors vqgan/model/ema/model.safetensors && fail "the VQGAN's average is the last step"

options="--config $configs/micro.json --data tokens/train --valid tokens/kept --tokenizer tokenizer --vqgan vqgan/model --steps 12
    --set train.seq2seq.checkpoint_every=5 train.seq2seq.valid_every=6"
shampoo="train.seq2seq.optimizer=shampoo train.seq2seq.block_size=32 train.seq2seq.preconditioning_compute_steps=2
    train.seq2seq.start_preconditioning_step=3 train.seq2seq.ema_decay=0.9"
adafactor="train.seq2seq.optimizer=adafactor train.seq2seq.momentum=0.9 train.seq2seq.min_dim_size_to_factor=32
    train.seq2seq.weight_decay_exclude=norms"
for optimizer in shampoo adafactor; do
    eval "settings=\$$optimizer"
    quietly limn-train $options $settings --output "$optimizer"
    killed_until_done 0.05 limn-train $options $settings --output "$optimizer-killed"
    same_model "$optimizer" "$optimizer-killed"
done

# The average: measured, and a model like any other.
grep -q '"valid_loss_ema": [0-9]' shampoo/metrics.jsonl || fail "no validation loss of the average"
grep -q valid_loss_ema adafactor/metrics.jsonl && fail "a validation loss of an average that is not kept"
cmp -s shampoo/model/model.safetensors shampoo/model/ema/model.safetensors && fail "the average is the last step"
cmp shampoo/model/ema/model.safetensors shampoo-killed/model/ema/model.safetensors || fail "the average differs after kills"
quietly limn-sample --model shampoo/model/ema --prompt "a red square" --count 1 --output drawn.png
[ -s drawn.png ] || fail "nothing is drawn with the average"

# Another optimizer on a run that is there is refused, and so is another's setting.
expect 2 'train.block_size\|train.optimizer\|train.beta1' \
    limn-train $options train.seq2seq.optimizer=adamw train.seq2seq.ema_decay=0.9 --output shampoo
expect 2 'block_size is a setting of the optimizer shampoo' \
    limn-train $options train.seq2seq.block_size=32 --output other
