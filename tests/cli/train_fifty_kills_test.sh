# Fifty kills at random moments, most of them while a checkpoint is being written in the background: the run ends with the bits of one
# that was left alone.
. "$(dirname "$0")/support.sh"
seed=${3:-$(date +%s)}
echo "seed $seed: sh $0 $1 $2 $seed repeats the moments"
make_tokens --steps 20

set -- --config "$configs/micro.json" --data tokens/train --valid tokens/kept --tokenizer tokenizer --vqgan vqgan/model \
    --set train.seq2seq.checkpoint_every=3 train.seq2seq.valid_every=7 train.seq2seq.log_every=4 train.seq2seq.sample_every=50 \
    seq2seq.dropout=0.1 --steps 600 --output
begin=$(date +%s.%N)
quietly limn-train "$@" whole
whole=$(awk -v b="$begin" -v e="$(date +%s.%N)" 'BEGIN { print e - b }')

# Fifty times, each after a random moment that is a fiftieth of the whole run on average, and some more for the start. A run that ends
# before it is killed is as good as the other, and another one is begun.
kills=0 ended=0
while [ $kills -lt 50 ]; do
    moment=$(awk -v s="$seed" -v k="$((kills + ended))" -v w="$whole" 'BEGIN { srand(s + k); print 0.05 + rand() * w / 25 }')
    limn-train "$@" killed >killed.log 2>&1 &
    process=$!
    sleep "$moment"
    kill -9 $process 2>/dev/null || true
    code=0
    wait $process 2>/dev/null || code=$?
    case $code in
        137) kills=$((kills + 1)) ;;
        0)
            same_run whole killed
            rm -r killed
            ended=$((ended + 1))
            ;;
        *) fail "ended with $code after $kills kills: $(tail -n 3 killed.log)" ;;
    esac
done
quietly limn-train "$@" killed
echo "killed $kills times in $((ended + 1)) runs"
same_run whole killed
[ -z "$(find killed/checkpoints -maxdepth 1 -name '.*' ! -name .)" ] || fail "halves of checkpoints are left"
[ "$(ls killed/checkpoints | wc -l)" -le 3 ] || fail "more checkpoints are left than are to be kept: $(ls killed/checkpoints)"
echo done
