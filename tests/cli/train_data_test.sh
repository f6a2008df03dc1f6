# What limn-train reads: shards that go away while it runs, JSON lines, filters, several sets kept from training.
. "$(dirname "$0")/support.sh"
make_tars
quietly limn-download --input shapes/train.tsv --output pictures/parts --size 32 --allow-private --shard-size 5
quietly limn-tokenizer train --input pictures/train --config "$configs/micro.json" --output tokenizer
quietly limn-vqgan train --data pictures/train --config "$configs/micro.json" --steps 2 --output vqgan
quietly limn-encode --input 'pictures/parts/*.tar' --vqgan vqgan/model --output tokens/parts
quietly limn-encode --input 'pictures/kept/*.tar' --vqgan vqgan/model --output tokens/kept
[ "$(ls tokens/parts/*.h5 | wc -l)" -ge 7 ] || fail "few shards: $(ls tokens/parts)"

options="--config $configs/micro.json --tokenizer tokenizer --vqgan vqgan/model"
train() {
    run=$1
    shift
    limn-train $options --output "$run" "$@"
}
# Groups of two shards, so that each is read again and again.
small="--data tokens/parts --valid tokens/kept --steps 120
       --set train.seq2seq.shuffle_buffer=10 train.seq2seq.log_every=1 train.seq2seq.checkpoint_every=100"
quietly train whole $small

# A shard goes wrong in the middle of a run: one error that names it, nothing lost, and the same bits in the end.
cp tokens/parts/00003.h5 kept.h5
survive() {
    damage=$1
    for attempt in 1 2 3 4 5; do
        rm -rf "$damage"
        limn-train $options --output "$damage" $small >damaged.log 2>&1 &
        process=$!
        while [ ! -s "$damage/metrics.jsonl" ] && kill -0 $process 2>/dev/null; do sleep 0.02; done
        kill -STOP $process 2>/dev/null || true
        case $damage in
        deleted) rm tokens/parts/00003.h5 ;;
        cut) truncate -s 2000 tokens/parts/00003.h5 ;;
        replaced) cp tokens/parts/00006.h5 tokens/parts/00003.h5 ;;
        esac
        kill -CONT $process 2>/dev/null || true
        code=0
        wait $process || code=$?
        cp kept.h5 tokens/parts/00003.h5
        [ $code = 0 ] || break # else it was through before
    done
    [ $code = 1 ] || fail "a shard $damage ends with $code: $(tail -n 3 damaged.log)"
    grep -q '^limn-train: step [0-9]*: tokens/parts/00003.h5: ' damaged.log || fail "a shard $damage: $(cat damaged.log)"
    grep -q 'is saved; the same command goes on from there' damaged.log || fail "a shard $damage: $(cat damaged.log)"
    last=$(sed -n 's/^limn-train: step \([0-9]*\): tokens.*/\1/p' damaged.log)
    [ "$(readlink "$damage/model")" = "checkpoints/$(printf %08d $((last - 1)))" ] || fail "$(readlink "$damage/model") after step $last"
    quietly train "$damage" $small
    same_model whole "$damage"
    same_metrics whole "$damage"
}
survive deleted
survive cut
survive replaced
killed_until_done 0.4 limn-train $options --output killed $small
same_model whole killed

# What a run was begun with decides it.
expect 2 'inputs.data' train whole --data tokens/parts/0000[0-5].h5 --valid tokens/kept --steps 120 \
    --set train.seq2seq.shuffle_buffer=10 train.seq2seq.log_every=1 train.seq2seq.checkpoint_every=100
mkdir swapped
for i in 0 1 2 3 4 5 6; do ln -s "$folder/tokens/parts/0000$((6 - i)).h5" swapped/$i.h5; done
expect 2 'inputs.data_counts_sha256' train whole --data swapped --valid tokens/kept --steps 120 \
    --set train.seq2seq.shuffle_buffer=10 train.seq2seq.log_every=1 train.seq2seq.checkpoint_every=100
quietly limn-tokenizer train --input pictures/train --vocab-size 280 --output other-tokenizer
expect 2 'tokenizer_sha256' limn-train --config "$configs/micro.json" --tokenizer other-tokenizer --vqgan vqgan/model --output whole $small \
    --set seq2seq.encoder_vocab_size=$(grep -o '"encoder_vocab_size": [0-9]*' whole/model/config.json | grep -o '[0-9]*')

# Several sets kept from training; a file's name may look like one.
quietly train named --data tokens/parts --valid tokens/kept shapes=tokens/parts/00000.h5 shapes=tokens/parts/00001.h5 one=tokens/kept --steps 3
grep -q '"valid_loss": .*"valid_loss_shapes": .*"valid_loss_one": ' named/metrics.jsonl || fail "no losses by name: $(cat named/metrics.jsonl)"
sed -n 's/.*"valid_loss": \([0-9.]*\), .*"valid_loss_one": \([0-9.]*\).*/\1 \2/p' named/metrics.jsonl | awk '$1 != $2 { exit 1 }' || fail "one set, two losses"
quietly train first-named --data tokens/parts --valid one=tokens/kept --steps 3
grep -q '"valid_loss": .*"valid_loss_one": ' first-named/metrics.jsonl || fail "the first set is not valid_loss"
# The set without a name is the first, wherever it stands.
for run in first last; do
    order="one=tokens/parts/00000.h5 tokens/kept"
    [ $run = last ] || order="tokens/kept one=tokens/parts/00000.h5"
    quietly train "unnamed-$run" --data tokens/parts --valid $order --steps 3 --set train.seq2seq.ema_decay=0.9
done
losses() { grep -o '"valid_loss[a-z_]*": [0-9.]*' "$1/metrics.jsonl" | sort; }
losses unnamed-first >a && losses unnamed-last >b && [ "$(wc -l <a)" = 3 ] && cmp a b || fail "valid_loss depends on where its set stands"
cp tokens/kept/00000.h5 a=b.h5
quietly train file --data tokens/parts --valid a=b.h5 --steps 3
grep -q '"valid_loss_a"' file/metrics.jsonl && fail "a file's name is taken for a set's"

# JSON lines: both names of each column, scores, and wrong lines.
awk 'BEGIN {
    for (i = 0; i < 40; i++) {
        printf "{\"%s\": \"small red square\", \"%s\": [", i % 2 ? "caption" : "captions", i % 3 ? "encoding" : "tokens"
        for (t = 0; t < 64; t++) printf "%s%d", t ? "," : "", (i + t) % 64
        printf "], \"clip_score\": %s}\n", i % 4 == 3 ? "null" : i / 40
    }
}' >lines.jsonl
quietly train lines --data lines.jsonl --steps 4
grep -q 'cannot be checked' quiet.log || fail "lines of any VQGAN are taken without a word"
grep -q ' 40 pairs' quiet.log || fail "lines: $(cat quiet.log)"
gzip -c lines.jsonl >packed.jsonl.gz
quietly train packed --data packed.jsonl.gz --steps 4
cmp lines/model/model.safetensors packed/model/model.safetensors || fail "packed lines give other weights"
mkdir both && cp lines.jsonl tokens/parts/00000.h5 both
quietly train both-run --data both --steps 2
grep -q ' 45 pairs' quiet.log || fail "a folder of both: $(cat quiet.log)"
quietly train filtered --data lines.jsonl --steps 4 --set train.seq2seq.min_clip_score=0.5
grep -q '15 pairs taken, 25 left out' quiet.log || fail "filter: $(cat quiet.log)"
quietly train filtered-too --data lines.jsonl --steps 4 --set train.seq2seq.filter_column=clip_score train.seq2seq.filter_max=0.45
grep -q '15 pairs taken, 25 left out' quiet.log || fail "filter: $(cat quiet.log)"
expect 2 "00000.h5: has no column 'clip_score' for train.seq2seq.min_clip_score" train x --data tokens/parts --set train.seq2seq.min_clip_score=0.5
expect 2 "line 1: has no number 'nsfw'; its numbers are: clip_score" \
    train x --data lines.jsonl --set train.seq2seq.filter_column=nsfw train.seq2seq.filter_max=1
expect 2 'needs filter_min or filter_max' train x --data lines.jsonl --set train.seq2seq.filter_column=clip_score
expect 2 'need a filter_column' train x --data lines.jsonl --set train.seq2seq.filter_min=1
expect 1 'none of 40 pictures passes the filter (clip_score' train x --data lines.jsonl --set train.seq2seq.min_clip_score=2
wrong() { # SED-SCRIPT WORDS
    sed "$1" lines.jsonl >wrong.jsonl
    expect 1 "wrong.jsonl: line 7: $2" train x --data wrong.jsonl
}
wrong '7s/}//' 'is not JSON'
wrong '7s/,50,/,/' 'has 63 tokens instead of 64'
wrong '7s/,50,/,64,/' 'has token 64, but the codebook has 64'
wrong '7s/red/\xff/' 'is not JSON: unable to decode byte 0xff'
wrong '7s/caption/title/' 'has no "caption"'
[ ! -e x/model ] || fail "a refused run left a model"

quietly limn-bench data --config "$configs/micro.json" --data tokens/parts --tokenizer tokenizer --seconds 0.1 --against 100
limn-bench data --config "$configs/micro.json" --data tokens/parts lines.jsonl --tokenizer tokenizer --seconds 0.1 --against 100 2>/dev/null |
    grep -q '"rate": [0-9.]*, "read_rate": [0-9.]*, "read_bytes": [0-9]*, "ratio": [0-9.]*, "rss_bytes"' || fail "limn-bench data prints something else"
echo done
