# How fast limn-tokenizer trains and encodes beside Hugging Face tokenizers, on a corpus of captions with a long tail of words:
#
#     sh tokenizer_bench.sh LIMN_TOKENIZER PYTHON [MEGABYTES [WORDS [VOCABULARY]]]
#
# PYTHON is one that has tokenizers (0.13.3). The two take turns, three rounds; the medians count. Ours is the time of the whole
# process, its reading and writing included; theirs that of training and encoding alone, on lines that are in memory.
set -eu
program=$1 python=$2 megabytes=${3:-20} words=${4:-200000} vocabulary=${5:-4000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C

# Captions of 4 to 19 words, whose frequencies fall as 1/rank, with numbers, punctuation and other scripts; the same everywhere.
awk -v bytes="$megabytes"000000 -v words="$words" '
    function random() { # the minimal standard generator of Park and Miller
        seed = seed * 16807 % 2147483647
        return seed / 2147483647
    }
    function spell(n,    text, rest) {
        if (n in known) return known[n]
        rest = n
        do {
            text = text (n % 31 == 30 ? foreign[1 + rest % foreign_count] : syllables[1 + rest % syllable_count])
            rest = int(rest / syllable_count)
        } while (rest > 0)
        return known[n] = text
    }
    BEGIN {
        seed = 20210727
        syllable_count = split("a re ta in lo ne ver co mi st ra on el qu be di gar ll th sho es un pre ing wa mo ck fi", syllables, " ")
        foreign_count = split("é ñu ö ша ка ре ни の 猫 さ", foreign, " ")
        mark_count = split(", . ! ? : ; - & / ( ) \" … 😀 ❤️ \047s n\047t \047ll", marks, " ")
        while (written < bytes) {
            line = ""
            for (left = 4 + int(16 * random()); left > 0; left--) {
                kind = random()
                if (kind < 0.03) line = line " " int(exp(7.7 * random()))
                else if (kind < 0.13) line = line marks[1 + int(mark_count * random())]
                line = line " " spell(int(exp(log(words) * random())))
            }
            print line
            written += length(line) + 1
        }
    }' >"$work/captions.txt"

cat >"$work/peer.py" <<'END'
import sys, time
from tokenizers import ByteLevelBPETokenizer
lines = [line.rstrip("\n") for line in open(sys.argv[1], encoding="utf8")]
tokenizer = ByteLevelBPETokenizer()
start = time.time()
tokenizer.train_from_iterator(lines, vocab_size=int(sys.argv[2]), min_frequency=2, show_progress=False)
trained = time.time()
for i in range(0, len(lines), 10000):
    tokenizer.encode_batch(lines[i:i + 10000])
print(trained - start, time.time() - trained)
END

seconds() { # of a command
    before=$(date +%s%N)
    "$@" >/dev/null
    echo "$(date +%s%N) $before" | awk '{ print ($1 - $2) / 1e9 }'
}

for round in 1 2 3; do
    train=$(seconds "$program" train --quiet --restart --input "$work/captions.txt" --vocab-size "$vocabulary" --output "$work/tokens")
    encode=$(seconds "$program" encode --quiet --tokenizer "$work/tokens" --input "$work/captions.txt")
    peer=$("$python" "$work/peer.py" "$work/captions.txt" "$vocabulary")
    echo "round $round: train $train s, encode $encode s; tokenizers train and encode $peer s" >&2
    echo "$train $encode $peer" >>"$work/rounds"
done

captions=$(wc -l <"$work/captions.txt") bytes=$(wc -c <"$work/captions.txt")
distinct=$(tr ' ' '\n' <"$work/captions.txt" | sort -u | wc -l)
median() { # of a column of the rounds
    cut -d ' ' -f "$1" "$work/rounds" | sort -g | sed -n 2p
}
echo "$captions captions, $distinct words between blanks, $bytes bytes, vocabulary $vocabulary; medians of three rounds:"
echo "$(median 1) $(median 2) $(median 3) $(median 4) $bytes $captions" | awk '{
    printf "train   %8.2f s %9.1f MB/s          tokenizers %8.2f s %9.1f MB/s          ratio %.1f\n", $1, $5 / $1 / 1e6, $3, $5 / $3 / 1e6, $3 / $1
    printf "encode  %8.2f s %9.0f captions/s    tokenizers %8.2f s %9.0f captions/s    ratio %.1f\n", $2, $6 / $2, $4, $6 / $4, $4 / $2
}'
