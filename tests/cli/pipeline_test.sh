# The whole pipeline in seconds, from a list of addresses to drawings; and at its end the drawings show what was asked for.
. "$(dirname "$0")/support.sh"
make_tokens --valid pictures/kept --steps 250 --set train.vqgan.discriminator_weight=0
[ -s vqgan/samples/00000250.png ] || fail "no reconstructions were written"
quietly limn-vqgan reconstruct --model vqgan/model shapes/00.png shapes/07.png --output both.png
head -c 90 shapes/00.png >cut.png
expect 1 'cut.png' limn-vqgan reconstruct --model vqgan/model shapes/07.png cut.png --output x.png
[ ! -e x.png ] || fail "a sheet was written without its pictures"
quietly limn-train --config "$configs/micro.json" --data tokens/train --valid tokens/kept --tokenizer tokenizer --vqgan vqgan/model \
    --steps 300 --output run
quietly limn-sample --model run/model --prompt "large red circle" --guidance 3 --output nine.png
[ -s nine.png ] || fail "no drawings were written"
limn-eval recall --model run/model --captions pictures/train --gallery pictures/kept --guidance 3 --json >recall.json 2>recall.log ||
    fail "limn-eval: $(cat recall.log)"
cat recall.json
awk -F'"recall": ' '{ exit !($2 + 0 >= 0.6) }' recall.json || fail "drawings are not what was asked for"
echo done
