# What limn-vqgan train and limn-train say of wrong input.
. "$(dirname "$0")/support.sh"
make_tars
quietly limn-tokenizer train --input pictures/train --config "$configs/micro.json" --output tokenizer
quietly limn-vqgan train --data pictures/train --config "$configs/micro.json" --steps 2 --output one
quietly limn-vqgan train --data pictures/train --config "$configs/micro.json" --steps 3 --output other
quietly limn-encode --input 'pictures/train/*.tar' --vqgan one/model --output tokens

train() {
    limn-train --data tokens --tokenizer tokenizer --vqgan one/model --steps 2 --output "$@"
}
micro="--config $configs/micro.json"

expect 2 'unknown key' limn-vqgan train --data pictures/train --config tokenizer/vocab.json --output x
expect 2 'learning_rat' limn-vqgan train --data pictures/train $micro --set train.vqgan.learning_rat=1 --output x
expect 2 'n_embed' limn-vqgan train --data pictures/train $micro --set vqgan.n_embed=0 --output x
expect 2 'discriminator_layers' limn-vqgan train --data pictures/train $micro --set train.vqgan.discriminator_layers=5 --output x
expect 2 'd_model' train x $micro --set seq2seq.d_model=63
expect 2 'encoder_vocab_size' train x $micro --set seq2seq.encoder_vocab_size=10
expect 2 'image_length' train x $micro --set seq2seq.image_length=5
expect 1 'another VQGAN' limn-train --data tokens --tokenizer tokenizer --vqgan other/model --steps 2 --output x $micro
expect 1 'no such file' train x $micro --valid nothing/here
quietly train run $micro
expect 1 'another shape' train x $micro --init run/model --set seq2seq.d_model=32
cp -r tokens cut && truncate -s 2000 cut/00000.h5
expect 1 'cut/00000.h5' limn-train --data cut --tokenizer tokenizer --vqgan one/model --steps 2 --output x $micro
mkdir empty && : >empty/00000.tar
expect 1 'empty' limn-vqgan train --data empty $micro --output x
[ ! -e x/model ] || fail "a refused run left a model"
echo done
