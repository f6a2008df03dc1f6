# limn-tokenizer from the shell: sh program_test.sh PROGRAM
program=$1
. "$(dirname "$0")/../shell.sh"

i=0
while [ $i -lt 50 ]; do
    echo " a red apple and a blue heart $i"
    i=$((i + 1))
done >captions.txt

expect 0 '280 tokens from 50 captions' "$program" train --input captions.txt --vocab-size 280 --output tokens
for name in vocab.json merges.txt tokenizer.json; do [ -s "tokens/$name" ] || fail "$name is missing"; done

# the same again is done already; another configuration is refused by name; --restart trains anew
touch -d '2001-01-01' tokens/tokenizer.json
expect 0 'trained already' "$program" train --input captions.txt --vocab-size 280 --output tokens
[ tokens/tokenizer.json -ot captions.txt ] || fail "it was trained again"
expect 2 'another vocab_size' "$program" train --input captions.txt --vocab-size 279 --output tokens
expect 2 'another min_frequency' "$program" train --input captions.txt --vocab-size 280 --min-frequency 3 --output tokens
expect 0 '279 tokens' "$program" train --input captions.txt --vocab-size 279 --output tokens --restart
echo ' more' >>captions.txt
expect 2 'another input' "$program" train --input captions.txt --vocab-size 279 --output tokens
rm tokens/training.json
expect 2 'not trained here' "$program" train --input captions.txt --vocab-size 279 --output tokens

# there and back
printf ' a red apple\n\ncaf\303\251 <mask>\n' >lines
"$program" encode --tokenizer tokens --input lines --quiet >ids
[ "$(sed -n 2p ids)" = '{"ids": [0, 2]}' ] || fail "an empty line is $(sed -n 2p ids)"
[ "$(wc -l <ids)" = 3 ] || fail "three lines do not give three"
"$program" decode --tokenizer tokens --quiet <ids >back
printf ' a red apple\n\ncaf\303\251 \n' | cmp - back || fail "decoding does not give back the lines"

# a pipe's lines are answered as they come, and Ctrl-C ends the waiting for more
mkfifo pipe
"$program" encode --tokenizer tokens --quiet <pipe >answers 2>err &
waiting=$!
exec 3>pipe
echo ' a red apple' >&3
tries=0
until [ -s answers ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "a line in a pipe is not answered"
    sleep 0.05
done
kill -INT $waiting
code=0
wait $waiting || code=$?
exec 3>&-
[ "$code" = 130 ] || fail "Ctrl-C while waiting for a line ends with $code: $(cat err)"

# wrong use and wrong input
expect 2 '--tokenizer' "$program" encode
expect 1 'nowhere' "$program" encode --tokenizer nowhere
expect 2 'vocab-size' "$program" train --input captions.txt --vocab-size 200 --output small
expect 2 'at most 2147483647 tokens' "$program" train --quiet --input captions.txt --vocab-size 3G --output small
[ ! -e small/tokenizer.json ] || fail "a refused training left a tokenizer"
: >empty
expect 1 'no captions' "$program" train --quiet --input empty --vocab-size 280 --output small
expect 1 'absent' "$program" train --quiet --input absent --vocab-size 280 --output small
echo '{"ids": [5000]}' >wrong
expect 1 'wrong: line 1: token id 5000' "$program" decode --tokenizer tokens --input wrong --quiet
code=0
"$program" encode --tokenizer tokens --input lines --quiet >/dev/full 2>err || code=$?
[ "$code" = 1 ] && grep -q 'cannot be written' err || fail "a full disk goes unnoticed: $(cat err)"

# captions to normalised captions
printf 'One red\302\240APPLE &amp; #redapple\r\n\ncaf\303\203\302\251 <b>x</b>' >captions
printf 'red 2\napple 1\n' >words
"$program" normalize --words words --input captions --quiet >normalised
printf ' one red apple & red apple\n \n cafe x\n' | cmp - normalised || fail "normalising gives $(cat normalised)"
"$program" normalize --quiet <captions | grep -q '^ one red apple & r e d a p p l e$' || fail "hashtags without --words"
expect 1 'line 2 has no word' "$program" normalize --words captions --input captions
expect 1 'absent' "$program" normalize --words absent --input captions
expect 1 'absent' "$program" normalize --input absent
expect 2 'tokenizer' "$program" normalize --tokenizer tokens

# training on captions that are normalised is training on the normalised captions
"$program" train --quiet --input captions --vocab-size 275 --min-frequency 1 --normalize yes --words words --output from-raw
"$program" train --quiet --input normalised --vocab-size 275 --min-frequency 1 --output from-normalised
cmp from-raw/merges.txt from-normalised/merges.txt || fail "other merges from captions that are normalised on the way"
cmp from-raw/enwiki-words-frequency.txt words || fail "the word list does not go with the tokenizer"
[ ! -e from-normalised/enwiki-words-frequency.txt ] || fail "a word list from nowhere"
printf '{"tokenizer": {"vocab_size": 275, "min_frequency": 1}, "seq2seq": {"normalize_text": true}}' >config.json
"$program" train --quiet --input captions --config config.json --words words --output from-config
cmp from-raw/merges.txt from-config/merges.txt || fail "normalize_text of the configuration is not followed"
expect 2 'another normalize' "$program" train --quiet --input captions --config config.json --normalize no --output from-raw
expect 2 'goes with --normalize yes' "$program" train --input captions --vocab-size 275 --words words --output x
