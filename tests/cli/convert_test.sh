# Golden models through every form and back: the weights come back bit for bit, and what each form holds meets the goldens.
. "$(dirname "$0")/support.sh"
data=$(dirname "$configs")/tests/golden/data

# same A B: two models whose weights are the same bytes.
same() {
    cmp -s "$1/model.safetensors" "$2/model.safetensors" || fail "$2 has other weights than $1"
}

# meets PROGRAM GOLDEN MODEL [argument…]: the model in another folder meets the golden data.
meets() {
    program=$1 golden=$2 model=$3
    shift 3
    cp "$golden/golden.safetensors" "$model/"
    quietly "$program" "$model" "$@"
}

for golden in "$data"/seq2seq/* "$data"/seq2seq_more/*; do
    name=$(basename "$golden")
    # See tests/golden/CMakeLists.txt for what can be met of these three.
    case $name in
        preln_sinkhorn | subln_rms) only="--only states,guided_greedy_scale3" ;;
        swinv2_cosine) only="--only guided_greedy_scale3" ;;
        *) only= ;;
    esac
    quietly limn-convert "$golden" "$name/ours"
    meets golden-seq2seq "$golden" "$name/ours" $only
    for scan in yes no; do
        case $scan$name in
            yesswinv2* | nopostln)
                expect 2 "ln_positions" limn-convert "$name/ours" "$name/flax-$scan" --to flax --scan $scan
                continue
                ;;
        esac
        quietly limn-convert "$name/ours" "$name/flax-$scan" --to flax --scan $scan
        meets golden-seq2seq "$golden" "$name/flax-$scan" $only
        quietly limn-convert "$name/flax-$scan" "$name/again-$scan"
        same "$name/ours" "$name/again-$scan"
    done
    grep -q '"use_scan": true' "$golden/config.json" && original=yes || original=no
    cmp -s "$golden/flax_model.msgpack" "$name/flax-$original/flax_model.msgpack" ||
        fail "$name written as Flax is not the original's file"
    case $name in
        mini | mini_unscanned | mega_like)
            quietly limn-convert "$name/ours" "$name/pytorch" --to pytorch
            meets golden-seq2seq "$golden" "$name/pytorch"
            quietly limn-convert "$name/pytorch" "$name/again-pytorch"
            same "$name/ours" "$name/again-pytorch"
            ;;
        *) expect 2 "min-dalle cannot run" limn-convert "$name/ours" "$name/pytorch" --to pytorch ;;
    esac
    quietly limn-convert "$name/ours" "$name/bf16" --precision bf16
    quietly limn-convert "$name/bf16" "$name/bf16-flax" --to flax --precision bf16
    quietly limn-convert "$name/bf16-flax" "$name/bf16-again" --precision bf16
    same "$name/bf16" "$name/bf16-again"
done

golden=$data/vqgan/tiny
quietly limn-convert "$golden" tiny/ours
grep -q '"pixel_range": \[0,1\]' tiny/ours/config.json || tr -d ' \n' <tiny/ours/config.json | grep -q '"pixel_range":\[0,1\]' ||
    fail "a Flax VQGAN is not taken for [0,1]"
meets golden-vqgan "$golden" tiny/ours
quietly limn-convert tiny/ours tiny/flax --to flax
meets golden-vqgan "$golden" tiny/flax
quietly limn-convert tiny/flax tiny/again-flax
same tiny/ours tiny/again-flax
quietly limn-convert tiny/ours tiny/pytorch --to pytorch
mkdir tiny/taming # as taming's training leaves it: a checkpoint and its YAML, and nothing else
cp tiny/pytorch/model.ckpt tiny/pytorch/config.yaml tiny/taming/
meets golden-vqgan "$golden" tiny/taming
quietly limn-convert tiny/taming tiny/again-taming
same tiny/ours tiny/again-taming

# The original's own checkpoint, with what its training leaves in it.
published=$(dirname "$configs")/../shared/golden/vqgan/f16_small
if [ -e "$published/model.ckpt" ]; then
    mkdir published
    cp "$published/model.ckpt" "$published/config.yaml" published/
    meets golden-vqgan "$published" published
    quietly limn-convert published from-checkpoint
    quietly limn-convert "$published/flax_model.msgpack" from-flax
    same from-checkpoint from-flax
else
    echo "skipped: $published is not there"
fi

# min-dalle's detokenizer is a decoder that draws what its VQGAN drew.
quietly limn-convert tiny/pytorch/detoker.pt tiny/detoker
awk 'BEGIN { srand(1); printf "{\"tokens\": [["; for (i = 0; i < 64; i++) printf "%s%d", i ? ", " : "", int(40 * rand()); print "]]}" }' >tokens.jsonl
quietly limn-vqgan decode --model tiny/detoker tokens.jsonl --output half.png
quietly limn-vqgan decode --model tiny/ours tokens.jsonl --output whole.png
cmp -s half.png whole.png || fail "a detokenizer draws otherwise than its VQGAN"
mkdir bare # what min-dalle publishes has no configuration: it is read off the shapes, for its 16x16 tokens
cp tiny/pytorch/detoker.pt bare/
quietly limn-convert bare bare-model
tr -d ' \n' <bare-model/config.json | grep -q '"attn_resolutions":\[16\],"ch":32,"ch_mult":\[1,2\].*"embed_dim":12.*"n_embed":40.*"resolution":32.*"z_channels":16' ||
    fail "the shapes of a detokenizer were misread: $(cat bare-model/config.json)"
expect 1 "without an encoder" limn-vqgan encode --model tiny/detoker whole.png --output x.jsonl
expect 1 "without an encoder" limn-convert tiny/detoker x --to flax

# What min-dalle publishes of the drawing model has no configuration either; only the number of heads is not in its shapes.
cat >sizes.json <<END
{"d_model": 128, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
 "decoder_ffn_dim": 40, "encoder_vocab_size": 300, "image_vocab_size": 50, "image_length": 16, "max_text_length": 8, "normalize_text": true}
END
quietly bench-random-model sizes.json split/model
quietly limn-convert split/model split/ours # the same weights under the header that ours have
quietly limn-convert split/model split/pytorch --to pytorch
rm split/pytorch/config.json
quietly limn-convert split/pytorch/encoder.pt split/again
same split/ours split/again
for key in $(tr -d ' \n{}' <sizes.json | tr ',' ' '); do
    tr -d ' \n' <split/again/config.json | grep -q "$key" || fail "$key was not read off the shapes: $(cat split/again/config.json)"
done
rm -r split/again split/pytorch/decoder.pt
expect 1 "decoder.pt" limn-convert split/pytorch split/again
cp -r mini/pytorch mini/bare
rm mini/bare/config.json mini/bare/conversion.json
expect 1 "number of attention heads" limn-convert mini/bare x

# A whole model draws the same from each form, and its tokens are drawn again.
quietly make-model whole
quietly limn-convert whole whole-flax --to flax
quietly limn-convert whole whole-pytorch --to pytorch
quietly limn-convert whole-pytorch whole-again --vqgan whole-flax/vqgan
for model in whole whole-flax whole-pytorch whole-again; do
    quietly limn-sample --model $model --prompt "A red apple" --count 4 --guidance 3 --seed 5 --output $model.png --tokens-out $model.jsonl
    cmp -s whole.jsonl $model.jsonl || fail "$model draws other tokens"
    cmp -s whole.png $model.png || fail "$model draws another picture"
done
quietly limn-vqgan decode --model whole-flax/vqgan whole.jsonl --output decoded.png
cmp -s whole.png decoded.png || fail "tokens are drawn otherwise than by limn-sample"

# What a user may get wrong.
expect 2 "limn-convert --vqgan" limn-sample --model mini/ours --prompt x --output x.png
expect 2 "SOURCE and a MODEL_DIR" limn-convert tiny/ours
expect 2 "is not there" limn-convert nowhere x
expect 2 "source itself" limn-convert tiny/ours tiny/ours
expect 2 "another to" limn-convert mini/ours mini/flax-yes
expect 2 "another source" limn-convert mega_like/ours mini/again-no
expect 2 "not converted here" limn-convert tiny/ours tiny/taming
expect 2 "goes with --to flax" limn-convert tiny/ours x --scan yes
expect 2 "a VQGAN itself" limn-convert tiny/ours x --vqgan tiny/flax
expect 2 "not a VQGAN" limn-convert mini/ours x --vqgan mega_like/ours
expect 2 "another model's" limn-convert mini/ours x --vqgan tiny/ours
expect 1 "neither a DALL·E Mini model nor a VQGAN" limn-convert "$data/optimizers/golden.safetensors" x
mkdir empty
expect 1 "holds no weights" limn-convert empty x
expect 0 "converted already" limn-convert mini/ours mini/pytorch --to pytorch
sed 's/"finished": true/"finished": false/' mini/pytorch/conversion.json >changed && mv changed mini/pytorch/conversion.json
rm mini/pytorch/decoder.pt
quietly limn-convert mini/ours mini/pytorch --to pytorch # was interrupted: is finished
[ -s mini/pytorch/decoder.pt ] || fail "an interrupted conversion is not finished"
mkdir cut
cp mini/ours/config.json cut/
head -c 200000 "$data/seq2seq/mini/flax_model.msgpack" >cut/flax_model.msgpack
expect 1 "cut" limn-convert cut x
[ ! -e x ] || fail "a refused conversion leaves a folder"
(
    ulimit -f 100 # blocks of 512 bytes
    trap '' XFSZ
    expect 1 "model.safetensors" limn-convert --quiet "$data/seq2seq/mini" full
)
[ ! -e full/model.safetensors ] || fail "a conversion that did not fit looks whole"
[ -z "$(find full -name '.*.tmp-*')" ] || fail "a conversion that did not fit leaves its temporary"
echo done
