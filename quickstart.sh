#!/bin/sh
# From nothing to drawings: installs packages, builds Limn, makes a list of captioned pictures from Debian's own packages, and runs
# every program of the pipeline on it: download, tokenizer, VQGAN, encode, train, sample, eval. Under 15 minutes on two cores.
# Run it again and it goes on where it stopped.
#
#   ./quickstart.sh [--output DIR] [--config FILE] [--set small|large] [--minutes N]
#
#   --output DIR     where everything goes (quickstart)
#   --config FILE    model and training (configs/emoji-small.json)
#   --set NAME       which pictures (small; large: every emoji and Tux Paint's stamps, for configs/emoji.json and a night)
#   --minutes N      for the whole (15)
set -eu
cd "$(dirname "$0")"
begin=$(date +%s)
out=quickstart config=configs/emoji-small.json set=small minutes=15
usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage; exit 0 ;;
        --output | --config | --set | --minutes)
            [ $# -ge 2 ] || { echo "quickstart.sh: $1 needs a value" >&2; exit 2; }
            case $1 in
                --output) out=$2 ;;
                --config) config=$2 ;;
                --set) set=$2 ;;
                --minutes) minutes=$2 ;;
            esac
            shift 2 ;;
        *) echo "quickstart.sh: unknown option $1; see --help" >&2; exit 2 ;;
    esac
done
case $minutes in '' | *[!0-9]*) echo "quickstart.sh: --minutes must be a whole number" >&2; exit 2 ;; esac
[ -f "$config" ] || { echo "quickstart.sh: $config: no such file" >&2; exit 2; }
say() { printf '\n== %s\n' "$*" >&2; }

say "1/8 packages and build"
sh scripts/install_packages.sh pictures
cmake --preset release >/dev/null
cmake --build --preset release -j "$(nproc)" --target programs >/dev/null
PATH=$PWD/build/bin:$PATH
mkdir -p "$out"

say "2/8 pictures with captions, from Debian's packages"
/usr/bin/python3 scripts/prepare_pictures.py --output "$out/source" --set "$set"

say "3/8 limn-download: lists to tars"
side=$(/usr/bin/python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["vqgan"]["resolution"])' "$config")
for part in train kept; do
    limn-download --input "$out/source/$part.tsv" --output "$out/pictures/$part" --size "$side" --allow-private
done

say "4/8 limn-tokenizer: words to numbers"
limn-tokenizer train --input "$out/pictures/train" --config "$config" --output "$out/tokenizer"

# What is left of the time goes to the two trainings, and is remembered, so that a second run goes on with the same. Two minutes are
# for the steps behind them.
if [ ! -f "$out/minutes" ]; then
    left=$((minutes * 60 - ($(date +%s) - begin) - 120))
    [ $left -gt 120 ] || left=120
    awk -v left=$left 'BEGIN { printf "%.2f %.2f\n", left * 0.64 / 60, left * 0.36 / 60 }' >"$out/minutes.new"
    mv "$out/minutes.new" "$out/minutes"
fi
read -r vqgan_minutes train_minutes <"$out/minutes"

say "5/8 limn-vqgan train: pictures to tokens and back, $vqgan_minutes minutes"
limn-vqgan train --data "$out/pictures/train" --valid "$out/pictures/kept" --config "$config" --output "$out/vqgan" \
    --minutes "$vqgan_minutes"

say "6/8 limn-encode: tars to token shards"
for part in train kept; do
    limn-encode --input "$out/pictures/$part/*.tar" --vqgan "$out/vqgan/model" --output "$out/tokens/$part"
done

say "7/8 limn-train: captions to tokens, $train_minutes minutes"
limn-train --data "$out/tokens/train" --valid "$out/tokens/kept" --tokenizer "$out/tokenizer" --vqgan "$out/vqgan/model" \
    --config "$config" --output "$out/run" --minutes "$train_minutes"

say "8/8 limn-sample and limn-eval: what it draws"
limn-sample --model "$out/run/model" --prompts configs/emoji-prompts.txt --output "$out/drawings" \
    --guidance 2 --temperature 0.5
limn-eval recall --model "$out/run/model" --captions "$out/pictures/train" --gallery "$out/pictures/kept" --limit 100 \
    --guidance 2 --temperature 0.5 --sheet "$out/seen.png" >"$out/seen.txt"
limn-eval recall --model "$out/run/model" --captions "$out/pictures/kept" --gallery "$out/pictures/train" \
    --guidance 2 --temperature 0.5 --sheet "$out/kept.png" >"$out/kept.txt"

{
    echo "Pictures kept from training, through the VQGAN and back (PSNR, dB), and the validation loss of their captions:"
    grep -h valid_ "$out/vqgan/metrics.jsonl" | tail -n 1
    grep -h valid_ "$out/run/metrics.jsonl" | tail -n 1
    echo "Captions seen in training:"
    sed 's/^/  /' "$out/seen.txt"
    echo "Combinations kept from training:"
    sed 's/^/  /' "$out/kept.txt"
    echo "It took $((($(date +%s) - begin + 59) / 60)) minutes. Look at:"
    echo "  $out/drawings/*.png       nine drawings for each line of configs/emoji-prompts.txt"
    echo "  $out/seen.png, kept.png   for each caption its own picture, the drawing, and the drawing's nearest picture"
    echo "  $out/vqgan/samples/*.png  originals beside their reconstructions, as training went on"
    echo "Draw another of its captions, for instance:"
    echo "  build/bin/limn-sample --model $out/run/model --guidance 2 --temperature 0.5 --prompt 'purple heart' --output mine.png"
} | tee "$out/REPORT.txt"
