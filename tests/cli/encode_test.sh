# limn-encode as its users call it: the same bytes for any threads, batch and parts, and one line for what cannot be.
. "$(dirname "$0")/support.sh"
quietly make-pictures "$folder/shapes"
quietly limn-download --input shapes/train.tsv --output pictures --size 32 --shard-size 10 --allow-private
quietly limn-vqgan train --data pictures --config "$configs/micro.json" --steps 2 --output vqgan
set -- --input 'pictures/*.tar' --vqgan vqgan/model

limn-encode "$@" --output whole --verify 5 --json >whole.json 2>whole.log || fail "$(cat whole.log)"
grep -q 'encode  33 / 33 pictures  100.0%' whole.log || fail "the total is not known from the stats: $(cat whole.log)"
for said in '"pictures": 33' '"rate": [0-9]' '"vqgan_wait_seconds": [0-9]' '"precision": "fp32"' '"verified": 5' '"token_agreement": 1.0'; do
    grep -q -- "$said" whole.json || fail "no $said in $(cat whole.json)"
done
# same FOLDER: has the same shards.
same() {
    [ "$(cd "$1" && sha256sum *.h5)" = "$(cd whole && sha256sum *.h5)" ] || fail "the shards in $1 are not those in whole"
}
quietly limn-encode "$@" --output threads --threads 3 --batch 7
same threads
for part in 0 1 2; do quietly limn-encode "$@" --output parts --part $part/3; done
same parts

# bf16 says how it agrees with fp32, and the two do not mix.
limn-encode "$@" --output bf16 --precision bf16 --verify 8 >bf16.txt 2>bf16.log || fail "$(cat bf16.log)"
grep -q "verified 8 pictures: .* % of their bf16 tokens are fp32's too" bf16.txt || fail "no agreement in $(cat bf16.txt)"
expect 1 'bf16/00000.h5: made with --precision bf16, not fp32' limn-encode "$@" --output bf16
expect 1 'whole/00000.h5: made with --precision fp32, not bf16' limn-encode "$@" --output whole --precision bf16

# Without stats the total is estimated, and right at the end.
mkdir bare
cp pictures/*.tar bare
limn-encode --input 'bare/*.tar' --vqgan vqgan/model --output bare-tokens >bare.txt 2>bare.log || fail "$(cat bare.log)"
grep -q 'encode  33 / 33 pictures  100.0%' bare.log || fail "the total is not estimated: $(cat bare.log)"
grep -q 'pictures/s, the VQGAN waited' bare.txt || fail "no rate in $(cat bare.txt)"
same bare-tokens

for part in 0/0 3/3 4/3 -1/3 1/-3 1 1/ /3 1/2x 1-3 1/3/5 ' 1/3' 99999999999999999999/3 0/5000; do
    expect 2 '--part' limn-encode "$@" --output none --part "$part"
done
expect 2 '--precision' limn-encode "$@" --output none --precision int8
expect 2 '--precision' limn-encode "$@" --output none --precision fp64
expect 2 '--verify' limn-encode "$@" --output none --verify 1001
expect 2 '--batch' limn-encode "$@" --output none --batch 4097
[ ! -e none ] || fail "a refused run wrote something"

# Of four tars the second is cut: one line at the end names it, the others are made, and a whole one mends it.
head -c 15000 pictures/00001.tar >bare/00001.tar
code=0
limn-encode --input 'bare/*.tar' --vqgan vqgan/model --output broken --quiet 2>err || code=$?
[ $code = 1 ] || fail "a cut tar ends with $code"
grep -q '1 of 4 tars cannot be read.*bare/00001.tar' err || fail "the cut tar is not named: $(cat err)"
[ "$(ls broken/*.h5 | wc -l)" = 3 ] || fail "not the other three: $(ls broken)"
cp pictures/00001.tar bare
limn-encode --input 'bare/*.tar' --vqgan vqgan/model --output broken >mended.txt 2>err || fail "$(cat err)"
grep -q '1 shards made, 3 kept' mended.txt || fail "$(cat mended.txt)"
same broken
killed_until_done 0.02 limn-encode "$@" --output killed
same killed
echo done
