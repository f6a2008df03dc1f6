#!/bin/sh
# sample_bench.sh BIN [PRECISION]: limn-sample from the command to the written PNG, on a model of mini's size with random weights
# that lies in the page cache, beside the sum of its parts as limn-bench measures them: all image tokens, and nine pictures.
# Needs 3 GB on the disk for a moment, and python3 to see the memory.
set -eu
[ $# -ge 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bin=$1 precision=${2:-bf16}
config=$(dirname "$0")/../../configs/mini.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'a red apple\nan armchair in the shape of an avocado\n' >"$work/captions.txt"
"$bin/bench-random-model" "$config" "$work/model" vqgan
"$bin/limn-tokenizer" train --input "$work/captions.txt" --vocab-size 300 --min-frequency 1 --output "$work/model" --quiet
cat "$work/model/model.safetensors" "$work/model/vqgan/model.safetensors" >/dev/null

pictures_precision=$precision
[ "$precision" != int8 ] || pictures_precision=bf16 # as limn-sample does
seconds() { "$bin/limn-bench" "$@" --config "$config" --batch 9 --log-level error | sed -n 's/.*"seconds": \([0-9.]*\).*/\1/p'; }
for round in 1 2 3; do
    whole=$(python3 - "$bin/limn-sample" --model "$work/model" --prompt 'an armchair in the shape of an avocado' --top-k 256 \
        --output "$work/armchair.png" --precision "$precision" --quiet <<'END'
import resource, subprocess, sys, time
begin = time.time()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(f"{time.time() - begin:.3f} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f}")
END
    )
    tokens=$(seconds sample --precision "$precision" --rounds 1)
    pictures=$(seconds vqgan-decode --precision "$pictures_precision")
    echo "$whole $tokens $pictures" | awk '{ printf "whole %.2f s, tokens %.2f s, pictures %.2f s: %.2f times their sum; %d MB\n", $1, $3, $4, $1 / ($3 + $4), $2 }'
done
