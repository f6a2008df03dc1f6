#!/bin/sh
# convert_bench.sh BIN_DIR WORK_DIR [CONFIG]: limn-convert against cp, in turns, on a Flax folder of random weights (mega's size, 10 GB,
# unless CONFIG says otherwise; WORK_DIR needs four times that). Prints seconds, their ratio, and limn-convert's memory without
# the pages of its mapping.
set -eu
bin=$1 work=$2 config=${3:-$(dirname "$0")/../../configs/mega.json}
mkdir -p "$work"
if [ ! -e "$work/flax/flax_model.msgpack" ]; then
    "$bin/bench-random-model" "$config" "$work/random"
    "$bin/limn-convert" --quiet "$work/random" "$work/flax" --to flax
    rm -rf "$work/random"
fi
now() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.2f", to - from }'; }

for round in 1 2 3; do
    rm -rf "$work/copy" "$work/model"
    sync
    start=$(now)
    mkdir "$work/copy"
    cp "$work/flax/flax_model.msgpack" "$work/copy/"
    cp_seconds=$(since "$start")
    sync
    cp_synced=$(since "$start")
    rm -rf "$work/copy"
    sync
    start=$(now)
    "$bin/limn-convert" --quiet "$work/flax" "$work/model" & pid=$!
    peak=0
    while [ -e "/proc/$pid/status" ]; do
        anonymous=$(awk '/^RssAnon/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
        [ "${anonymous:-0}" -le "$peak" ] || peak=$anonymous
        sleep 0.05
    done
    wait "$pid"
    seconds=$(since "$start")
    awk -v r="$round" -v a="$cp_seconds" -v s="$cp_synced" -v b="$seconds" -v m="$peak" 'BEGIN {
        printf "round %d: cp %.2f s (%.2f s with its data on disk), limn-convert %.2f s on disk: %.2f times cp, %.2f times cp and sync; %.0f MB beyond the mapping\n",
               r, a, s, b, b / a, b / s, m / 1024 }'
done
rm -rf "$work/copy" "$work/model"
