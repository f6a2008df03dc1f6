# limn-sample from the shell: sh program_test.sh PROGRAM MAKE_MODEL
program=$1 make_model=$2
. "$(dirname "$0")/../shell.sh"
export LIMN_THREADS=1

"$make_model" model
"$program" --quiet --model model --prompt 'a red apple' --output nine.png >names
[ "$(cat names)" = nine.png ] || fail "it does not name what it wrote: $(cat names)"
# width and height stand in the header: 48 x 48
[ "$(od -An -tu1 -j16 -N8 nine.png | tr -s ' ')" = ' 0 0 0 48 0 0 0 48' ] || fail "the picture is not 48 x 48"
"$program" --quiet --model model --prompt 'a red apple' --output again.png >names
cmp nine.png again.png || fail "the same seed draws something else"
"$program" --quiet --model model --prompt 'a red apple' --output other.png --seed 1 >names
! cmp -s nine.png other.png || fail "another seed draws the same"

printf 'red apple\nblue heart\n' >prompts.txt
"$program" --quiet --model model --prompts prompts.txt --output drawings --singles singles --tokens-out tokens.jsonl >names
[ -s drawings/0001-red-apple.png ] && [ -s drawings/0002-blue-heart.png ] || fail "not both were drawn"
[ "$(ls singles | wc -l)" = 18 ] || fail "there are not 18 single drawings"
[ "$(wc -l <tokens.jsonl)" = 2 ] || fail "there are not two lines of tokens"
expect 2 'another --guidance' "$program" --model model --prompts prompts.txt --output drawings --guidance 2

expect 2 '--prompt' "$program" --model model --output x.png
expect 2 '--prompt' "$program" --model model --output x.png --prompt a --prompts prompts.txt
expect 2 '--precision fp16' "$program" --model model --output x.png --prompt a --precision fp16
expect 2 '--backend mkl' "$program" --model model --output x.png --prompt a --backend mkl
expect 2 'fp32 alone' "$program" --model model --output x.png --prompt a --precision bf16 --backend openblas
expect 2 'another --precision' "$program" --model model --prompts prompts.txt --output drawings --precision bf16
expect 2 '--top-p' "$program" --model model --output x.png --prompt a --top-p 2
expect 1 'nowhere' "$program" --model nowhere --output x.png --prompt a
[ ! -e x.png ] || fail "a failed run left a picture"

# Ctrl-C in the middle: exit 130, one sentence, and no picture that looks whole
"$program" --model model --prompt a --count 100000 --output x.png >out 2>err &
process=$!
sleep 1
kill -INT $process
code=0
wait $process || code=$?
[ "$code" = 130 ] && grep -q 'stopped' err || fail "Ctrl-C ends it with $code: $(cat err)"
[ ! -e x.png ] || fail "a stopped run left a picture"
