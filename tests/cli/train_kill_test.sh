# Both trainings, killed with -9 again and again and gone on with, end with the same bits as those that were never killed.
. "$(dirname "$0")/support.sh"
make_tars
quietly limn-tokenizer train --input pictures/train --config "$configs/micro.json" --output tokenizer

# What is written beside the next step is what was there before it: checkpoints of every step, against runs that end there.
beside() {
    limn-vqgan train --data pictures/train --config "$configs/micro.json" --set train.vqgan.keep_checkpoints=0 train.vqgan.log_every=1 \
        train.vqgan.discriminator_start=0 train.vqgan.codebook_start=0 train.vqgan.revive_every=0 train.vqgan.decay=none "$@"
}
quietly beside train.vqgan.checkpoint_every=1 --steps 10 --output every
for step in 4 6 9; do
    quietly beside train.vqgan.checkpoint_every=0 --steps $step --output "until-$step"
    for file in model.safetensors train_state.h5; do
        cmp "every/checkpoints/0000000$step/$file" "until-$step/model/$file" || fail "$file of step $step was written too late"
    done
done

options="--data pictures/train --valid pictures/kept --config $configs/micro.json --steps 60 --set train.vqgan.checkpoint_every=7"
quietly limn-vqgan train $options --output whole
killed_until_done 0.4 limn-vqgan train $options --output killed
same_run whole killed

quietly limn-encode --input 'pictures/train/*.tar' --vqgan whole/model --output tokens/train
quietly limn-encode --input 'pictures/kept/*.tar' --vqgan whole/model --output tokens/kept
options="--config $configs/micro.json --data tokens/train --valid tokens/kept --tokenizer tokenizer --vqgan whole/model --steps 60
    --set train.seq2seq.checkpoint_every=7 seq2seq.dropout=0.1"
quietly limn-train $options --output run
killed_until_done 0.2 limn-train $options --output run-killed
same_run run run-killed

# A finished run is left as it is; another configuration on it is refused by name.
quietly limn-train $options --output run
grep -q "all 60 steps are done" quiet.log || fail "a finished run is trained again"
expect 2 'train.learning_rate' limn-train $options train.seq2seq.learning_rate=0.1 --output run

# Ctrl-C: exit code 130, and the same command ends with the same bits. Tried again where the run ended before the signal came.
for attempt in 1 2 3 4 5; do
    rm -rf stopped
    limn-train $options --output stopped >stopped.log 2>&1 &
    process=$!
    while [ ! -s stopped/metrics.jsonl ] && kill -0 $process 2>/dev/null; do sleep 0.02; done
    kill -INT $process 2>/dev/null || true
    code=0
    wait $process || code=$?
    [ $code = 0 ] || break
done
[ $code = 130 ] || fail "Ctrl-C ends with $code: $(cat stopped.log)"
quietly limn-train $options --output stopped
same_model run stopped

# The newest checkpoint cut short: the one before is gone on from.
newest=$(readlink run/model)
truncate -s 1000 "run/$newest/model.safetensors"
quietly limn-train $options --output run
grep -q "going back to step 56" quiet.log || fail "a damaged checkpoint is not passed over: $(cat quiet.log)"

# --restart begins anew, whatever is there.
quietly limn-train $options --output run --restart
grep -q "going on from\|all 60 steps are done" quiet.log && fail "--restart goes on with what is there: $(cat quiet.log)"
same_model run run-killed
echo done
