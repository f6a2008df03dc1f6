#!/bin/sh
# exports.sh BIN FLAX_PYTHON TORCH_PYTHON SOURCES: see README.md beside this.
set -eu
bin=$(cd "$1" && pwd) flax=$2 torch=$3 sources=$(cd "$4" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
data=$here/../golden/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
convert() { "$bin/limn-convert" --quiet "$@"; }

for model in mini mini_unscanned mega_like; do
    convert "$data/seq2seq/$model" "$work/$model" # to our form, from which all exports start
    for scan in yes no; do
        convert "$work/$model" "$work/flax" --to flax --scan $scan --restart
        PYTHONPATH=$sources/dalle-mini/src "$flax" "$here/load_flax.py" seq2seq "$work/flax" "$data/seq2seq/$model/golden.safetensors"
    done
    convert "$work/$model" "$work/pytorch" --to pytorch --restart
    PYTHONPATH=$sources/min-dalle "$torch" "$here/load_torch.py" min-dalle "$work/pytorch" "$data/seq2seq/$model/golden.safetensors"
done
convert "$data/vqgan/tiny" "$work/vqgan"
convert "$work/vqgan" "$work/vqgan-flax" --to flax
PYTHONPATH=$sources/vqgan-jax "$flax" "$here/load_flax.py" vqgan "$work/vqgan-flax" "$data/vqgan/tiny/golden.safetensors"
convert "$work/vqgan" "$work/vqgan-pytorch" --to pytorch
PYTHONPATH=$sources/taming-transformers "$torch" "$here/load_torch.py" taming "$work/vqgan-pytorch" "$data/vqgan/tiny/golden.safetensors"

mkdir "$work/detoker"
PYTHONPATH=$sources/min-dalle "$torch" "$here/load_torch.py" make-detoker "$work/detoker"
convert "$work/detoker/detoker.pt" "$work/detoker/model"
"$bin/limn-vqgan" decode --quiet --model "$work/detoker/model" "$work/detoker/tokens.jsonl" --output "$work/detoker/ours.png" >/dev/null
convert "$work/detoker/model" "$work/detoker/again" --to pytorch
PYTHONPATH=$sources/min-dalle "$torch" "$here/load_torch.py" detoker "$work/detoker"
