# limn-train as a job of several ranks on this machine: the same losses as alone, the same bits each time, ends well whatever happens to a
# rank, and goes on with another number of ranks.
. "$(dirname "$0")/support.sh"
if ! command -v mpirun >/dev/null; then
    echo "no mpirun: training by several ranks is not tested"
    exit 0
fi
. "$(dirname "$0")/../ranks.sh"
make_tokens --steps 20

options="--config $configs/micro.json --valid tokens/kept --tokenizer tokenizer --vqgan vqgan/model --steps 24"
settings="seq2seq.dropout=0 train.seq2seq.accumulation=2 train.seq2seq.log_every=4 train.seq2seq.valid_every=8
train.seq2seq.checkpoint_every=8"
# train RANKS RUN SETTING…: 0 ranks: without mpirun.
# shellcheck disable=SC2086
train() {
    number=$1 run=$2
    shift 2
    if [ "$number" = 0 ]; then
        limn-train $options --data tokens/train --output "$run" --set $settings "$@"
    else
        job "$number" limn-train $options --data tokens/train --output "$run" --set $settings "$@"
    fi
}

if quietly train 0 alone && ! train 2 without >without.log 2>&1 && grep -q "built without MPI" without.log; then
    grep -q "apt-get install libopenmpi-dev openmpi-bin" without.log || fail "does not say what to install: $(cat without.log)"
    echo "built without MPI: training by several ranks is not tested"
    exit 0
fi

# same_losses RUN RUN TOLERANCE: training and validation losses, relative, of at most the first hundred steps: rounding errors grow.
numbers() {
    sed -n 's/.*"step": \([0-9]*\).*"train_loss": \([0-9.e+-]*\).*/\1 \2/p; s/.*"step": \([0-9]*\).*"valid_loss": \([0-9.e+-]*\).*/\1 \2/p' "$1/metrics.jsonl"
}
same_losses() {
    numbers "$1" | head -n 25 >one
    numbers "$2" | head -n 25 >two
    [ "$(wc -l <one)" -ge 6 ] || fail "$1 has no losses"
    paste -d ' ' one two | awk -v most="$3" '{ d = ($2 - $4) / $2; if ($1 != $3 || d > most || d < -most) bad = 1 } END { exit bad }' ||
        fail "losses of $1 and $2 differ: $(paste one two)"
}

# One rank alone, two and four: the same losses to rounding, in one configuration of each kind of optimizer.
shampoo="train.seq2seq.optimizer=shampoo train.seq2seq.block_size=32 train.seq2seq.preconditioning_compute_steps=3
train.seq2seq.start_preconditioning_step=6 train.seq2seq.learning_rate=5e-4 train.seq2seq.ema_decay=0.9"
for number in 1 2 4; do
    quietly train $number "adamw-$number"
    same_losses alone "adamw-$number" 1e-4
done
# shellcheck disable=SC2086
{
    quietly train 0 shampoo $shampoo
    quietly train 3 shampoo-3 $shampoo
}
same_losses shampoo shampoo-3 1e-3
[ -s shampoo-3/model/ema/model.safetensors ] || fail "several ranks leave no moving average"
# In bfloat16 on the wire gradients are a little different, and the losses nearly the same.
quietly train 2 halves train.seq2seq.wire_precision=bf16
same_losses alone halves 2e-2
cmp -s alone/model/model.safetensors halves/model/model.safetensors && fail "wire_precision changes nothing"

# The same bits each time; killed, and gone on with.
quietly train 2 twice seq2seq.dropout=0.1
rm -rf first && mv twice first
quietly train 2 twice seq2seq.dropout=0.1
same_model first twice

# begin RANKS RUN SETTING…: in the background, until its next checkpoint is there; its ranks' processes in $processes.
begin() {
    begun=$2 before=$(readlink "$2/model" || true)
    train "$@" >begin.log 2>&1 &
    starter=$!
    tries=0
    while [ "$(readlink "$begun/model" || true)" = "$before" ]; do
        tries=$((tries + 1))
        [ $tries -lt 3000 ] && kill -0 $starter 2>/dev/null || fail "$begun does not begin: $(tail -n 5 begin.log)"
        sleep 0.02
    done
    processes=$(for each in /proc/[0-9]*; do
        if { tr '\0' ' ' <"$each/cmdline"; } 2>/dev/null | grep -q "^limn-train .*--output $begun "; then echo "${each#/proc/}"; fi
    done)
}
ended() {
    code=0
    wait $starter || code=$?
    for each in $processes; do
        tries=0
        while [ -d "/proc/$each" ]; do
            tries=$((tries + 1))
            [ $tries -lt 50 ] || fail "process $each is left: $(cat begin.log)"
            sleep 0.1
        done
    done
}
long="train.seq2seq.checkpoint_every=10"
# shellcheck disable=SC2086
{
    begin 2 killed seq2seq.dropout=0.1 $long --steps 400
    victim=$(echo $processes | cut -d ' ' -f 2)
    kill -9 $victim
    ended
    [ $code != 0 ] && [ $code != 124 ] || fail "a rank that is killed: the job ends with $code"
    newest=$(readlink killed/model)
    limn-sample --model "killed/$newest" --prompt "a red circle" --count 1 --output killed.png >sample.log 2>&1 ||
        fail "the last checkpoint is not whole: $(cat sample.log)"
    quietly train 2 unkilled seq2seq.dropout=0.1 $long --steps 400
    quietly train 2 killed seq2seq.dropout=0.1 $long --steps 400
    grep -q "going on from step" quiet.log || fail "does not go on: $(cat quiet.log)"
    same_model killed unkilled
}

# Stopped through one of its ranks: all end after the same step, and one says so. Another number of ranks goes on.
# shellcheck disable=SC2086
{
    quietly train 0 whole $long --steps 800
    begin 3 stopped $long --steps 800
    kill -TERM "$(echo $processes | cut -d ' ' -f 3)"
    ended
    [ $code = 130 ] || fail "a job that is stopped ends with $code: $(tail -n 5 begin.log)"
    [ "$(grep -c '^limn-train: .*stopped after step' begin.log)" = 1 ] || fail "a stop is told wrongly: $(cat begin.log)"
    begin 2 stopped $long --steps 800
    kill -TERM "$(echo $processes | cut -d ' ' -f 1)"
    ended
    quietly train 0 stopped $long --steps 800
    same_losses whole stopped 1e-4
}

# Rank 0 alone writes: of another rank's --output nothing comes.
# shellcheck disable=SC2086
quietly job 1 limn-train $options --data tokens/train --output told --set $settings : \
    -n 1 limn-train $options --data tokens/train --output untold --set $settings
[ -s told/summary.json ] && [ ! -e untold ] || fail "rank 1 writes"

# What one rank does otherwise is named, by one line.
# says CODE WORDS OPTIONS-OF-RANK-1…
says() {
    code=0 expected=$1 words=$2
    shift 2
    # shellcheck disable=SC2086
    job 1 limn-train $options --data tokens/train --output other --set $settings : -n 1 limn-train $options "$@" >log 2>&1 || code=$?
    [ $code = "$expected" ] || fail "$words: ends with $code: $(cat log)"
    [ "$(grep -c '^limn-train: rank' log)" = 1 ] || fail "$words: not one line of ours: $(cat log)"
    grep -q "^limn-train: rank 1 of 2: .*$words" log || fail "does not say '$words': $(cat log)"
}
# shellcheck disable=SC2086
{
    says 2 'another configuration.*"train.learning_rate" differs' --data tokens/train --output other \
        --set $settings train.seq2seq.learning_rate=0.1
    cp -r tokens/train damaged
    for shard in damaged/*.h5; do
        size=$(wc -c <"$shard")
        tr '\0' '\377' </dev/zero | dd of="$shard" bs=1 seek=$((size / 3)) count=$((size / 3)) conv=notrunc 2>/dev/null
    done
    says 1 'damaged' --data damaged --output other --set $settings
}
code=0
train 4 few train.seq2seq.batch_size=1 >log 2>&1 || code=$?
[ $code = 2 ] || fail "more ranks than pairs of a step: ends with $code"
[ "$(grep -c 'cannot be shared by 4 ranks' log)" = 1 ] || fail "more ranks than pairs of a step: $(cat log)"
echo done
