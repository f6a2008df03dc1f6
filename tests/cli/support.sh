# What the command-line tests share. Each is called with the folder of the programs and the folder of the presets.
programs=$1 configs=$2
. "$(dirname "$0")/../shell.sh"
PATH=$programs:$PATH
export LIMN_THREADS=1 # two tests run at once; results must not depend on it

# quietly COMMAND…: must succeed; its words are shown only when it does not.
quietly() {
    "$@" >quiet.log 2>&1 || fail "$*: $(tail -n 5 quiet.log)"
}

# Coloured shapes as tars: pictures/train and pictures/kept.
make_tars() {
    quietly make-pictures "$folder/shapes"
    for part in train kept; do
        quietly limn-download --input "shapes/$part.tsv" --output "pictures/$part" --size 32 --allow-private
    done
}

# make_tokens OPTION…: a tokenizer, vqgan/model trained with these options, and its tokens of all pictures: tokens/train and tokens/kept.
make_tokens() {
    make_tars
    quietly limn-tokenizer train --input pictures/train --config "$configs/micro.json" --output tokenizer
    quietly limn-vqgan train --data pictures/train --config "$configs/micro.json" --output vqgan "$@"
    for part in train kept; do
        quietly limn-encode --input "pictures/$part/*.tar" --vqgan vqgan/model --output "tokens/$part"
    done
}

# killed_until_done SECONDS COMMAND…: runs it again and again, each time killed after a moment that grows from nothing, until it ends.
# COMMAND is a program: of a function only the shell around it would be killed.
killed_until_done() {
    wait_for=$1
    shift
    moment=$wait_for kills=0
    while :; do
        "$@" >killed.log 2>&1 &
        process=$!
        (sleep "$moment"; kill -9 $process 2>/dev/null) &
        killer=$!
        if wait $process 2>/dev/null; then
            kill $killer 2>/dev/null || true
            break
        fi
        grep -q "error\|FAILED" killed.log && fail "$*: $(cat killed.log)"
        kills=$((kills + 1))
        [ $kills -lt 60 ] || fail "$* does not end after $kills kills: $(tail -n 3 killed.log)"
        moment=$(awk -v m="$moment" -v w="$wait_for" 'BEGIN { print m * 1.15 + w * 0.1 }')
    done
    echo "$1: killed $kills times"
}

# same_events RUN…: their event files say what metrics.jsonl says. Needs python3.
same_events() {
    for run in "$@"; do
        command -v python3 >/dev/null || return 0
        python3 "$(dirname "$configs")/tests/cli/read_events.py" "$run" || fail "the events of $run"
    done
}

# same_metrics RUN RUN: but for what depends on time.
same_metrics() {
    for run in "$1" "$2"; do sed 's/"[a-z]*_per_second": [0-9.e+-]*//; s/"data_wait": [0-9.e+-]*//; s/"peak_share": [0-9.e+-]*//' "$run/metrics.jsonl" >"$run.plain"; done
    cmp "$1.plain" "$2.plain" || fail "metrics of $1 and $2 differ"
}

# same_model RUN RUN: the same weights and training state.
same_model() {
    cmp "$1/model/model.safetensors" "$2/model/model.safetensors" || fail "the weights of $1 and $2 differ"
    cmp "$1/model/train_state.h5" "$2/model/train_state.h5" || fail "the training state of $1 and $2 differs"
}

# same_run RUN RUN: the same model, best step and metrics, and events that fit.
same_run() {
    same_model "$1" "$2"
    [ "$(readlink "$1/best")" = "$(readlink "$2/best")" ] || fail "the best of $1 and $2 differs"
    same_metrics "$1" "$2"
    same_events "$1" "$2"
}
