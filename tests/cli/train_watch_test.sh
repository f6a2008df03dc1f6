# What a training run tells of itself, and how it ends when something goes wrong.
. "$(dirname "$0")/support.sh"
make_tokens --valid pictures/kept --steps 20
train() {
    limn-train --config "$configs/micro.json" --data tokens/train --valid tokens/kept --tokenizer tokenizer --vqgan vqgan/model "$@"
}

# Both trainings: events, pictures, a summary.
same_events vqgan
[ -s vqgan/samples/00000020.png ] || fail "no reconstructions"
grep -q '"best_valid_psnr": [0-9]' vqgan/summary.json || fail "$(cat vqgan/summary.json)"
quietly train --output run --steps 40 --set train.seq2seq.sample_every=10
grep -q 'run: 40 steps, 320 pairs in .* hours: .* pairs/s' quiet.log || fail "no summary in $(cat quiet.log)"
for key in '"steps": 40' '"pairs": 320' '"hours": [0-9]' '"pairs_per_second": [0-9]' '"train_loss": [0-9]' '"valid_loss": [0-9]' \
    '"best_valid_loss": [0-9]' '"best_step": [0-9]' '"model": "model"' '"best": "best"'; do
    grep -q "$key" run/summary.json || fail "no $key in $(cat run/summary.json)"
done
[ "$(ls run/samples)" = "$(printf '%08d.png\n' 10 20 30 40)" ] || fail "samples: $(ls run/samples)"
same_events run
[ -e run/best/model.safetensors ] || fail "run/best leads nowhere"

# Drawing samples changes nothing of the run; prompts of one's own are drawn.
quietly train --output dark --steps 40 --set train.seq2seq.sample_every=0
[ -z "$(ls dark/samples)" ] || fail "samples nobody wanted"
cmp run/model/model.safetensors dark/model/model.safetensors || fail "samples change the weights"
quietly train --output prompts --steps 2 --set train.seq2seq.sample_every=1 \
    'train.seq2seq.sample_prompts=["large red circle", "small blue square"]'
cmp -s prompts/samples/00000001.png run/samples/00000010.png && fail "prompts are not drawn"
grep -q "small blue square" prompts/events.out.tfevents.* || fail "what is drawn is not told"
for wrong in '[]' '[1]' '"a"' '["a","a","a","a","a","a","a","a","a","a"]'; do
    expect 2 'sample_prompts must be a list of 1 to 9 sentences' train --output none --quiet --set "train.seq2seq.sample_prompts=$wrong"
done
expect 2 'max_loss_rise' train --output none --set train.seq2seq.max_loss_rise=0.5
[ ! -e none ] || fail "a refused run left something"

# spoil MODEL TENSOR BYTES: overwrites the tensor's first number.
spoil() {
    head=$(od -An -tu8 -N8 "$1/model.safetensors" | tr -d ' ')
    at=$(head -c $((head + 8)) "$1/model.safetensors" | tail -c "$head" | grep -o "\"$2\":{[^}]*}" | sed 's/.*"data_offsets":\[\([0-9]*\).*/\1/')
    [ -n "$at" ] || fail "no tensor $2"
    printf "$3" | dd of="$1/model.safetensors" bs=1 seek=$((head + 8 + at)) conv=notrunc 2>/dev/null
}
# A weight that is no number, or far too large, in one layer: it is named, and nothing is saved.
tensor=$(head -c 20000 run/model/model.safetensors | grep -ao 'model.decoder.layers.1[^"]*q_proj.weight' | head -n 1)
for bytes in '\000\000\300\177' '\346\261\141\177'; do # NaN, 3e38
    cp -rL run/model spoilt
    spoil spoilt "$tensor" "$bytes"
    expect 1 "decoder.layers.1 went first: its weights $tensor" train --quiet --output bad --steps 10 --init spoilt
    [ ! -e bad/model ] || fail "a bad model was saved"
    rm -r bad spoilt
done

# Another configuration: refused by name; --force goes on with it and keeps the old one; another model's shape stays refused.
expect 2 '"train.learning_rate" differs' train --output run --steps 40 --set train.seq2seq.learning_rate=1e-3
good=$(sha256sum <run/model/model.safetensors)
expect 1 'step [0-9]*: train_loss is .*(max_loss_rise).*last good checkpoint, checkpoints/000000[0-9]*,.*learning_rate=3.3' \
    train --quiet --output run --force --steps 400 --set train.seq2seq.learning_rate=10 train.seq2seq.max_loss_rise=2 \
    train.seq2seq.warmup_steps=0
last=$(readlink run/model)
[ -e "run/$last/model.safetensors" ] || fail "run/model leads nowhere"
grep -q "\"learning_rate\": 10" run/config.json || fail "config.json is the old one"
grep -q "\"steps\": 40" run/config.00000040.json || fail "the old configuration is lost"
[ "$last" != checkpoints/00000040 ] || [ "$(sha256sum <run/model/model.safetensors)" = "$good" ] || fail "the checkpoint changed"
expect 1 'another shape' train --quiet --log-level error --output run --force --steps 400 --set seq2seq.d_model=32
grep -q "\"learning_rate\": 10" run/config.json || fail "a refused configuration was written"

# A full disk: no file may grow beyond what a checkpoint needs. The run goes on with a warning, and fails at its end only; with room
# again the same command goes on.
(
    ulimit -f 1800 # blocks of 512 bytes: the weights fit, the training state does not
    trap '' XFSZ
    code=0
    train --output full --steps 45 >full.log 2>&1 || code=$?
    [ $code = 1 ] || fail "a full disk ends with $code: $(tail -n 2 full.log)"
)
[ "$(grep -c 'NO CHECKPOINT of step [0-9]*: .*full' full.log)" -ge 2 ] || fail "no warnings in $(cat full.log)"
[ "$(ls -A full/checkpoints)" = "" ] || fail "something is left: $(ls -A full/checkpoints)"
[ ! -e full/model ] || fail "full/model leads nowhere"
quietly train --output full --steps 45
quietly train --output empty --steps 45
same_run full empty
echo done
