#!/bin/sh
# compare.sh BIN PYTHON [WORK…]: ours and the peer in turns, in one run on one machine, and their ratio.
#   BIN     where limn-bench is (build/bin)
#   PYTHON  an interpreter with PyTorch
#   WORK    mini-bf16 mini-int8 mega-bf16 mega-int8 decode encode decode-fp32 encode-fp32 train-bf16 train-fp32; all when none is
#           given
# PEERS (default ../shared/peers) is the folder of sample_torch.py, vqgan_torch.py and seq2seq_train_torch.py, ROUNDS (default 3) how often each is run.
# Printed are the medians, and each round's ratio from least to largest: a busy machine shows there.
set -eu
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bin=$1 python=$2
shift 2
peers=${PEERS:-../shared/peers} rounds=${ROUNDS:-3}
[ $# -gt 0 ] || set -- mini-bf16 mini-int8 mega-bf16 mega-int8 decode encode decode-fp32 encode-fp32 train-bf16 train-fp32
here=$(dirname "$0")
config=$here/../../configs
[ -x "$bin/limn-bench" ] || { echo "compare.sh: $bin/limn-bench is not there; build first" >&2; exit 1; }
[ -r "$peers/sample_torch.py" ] || { echo "compare.sh: $peers has no sample_torch.py; set PEERS" >&2; exit 1; }

# seconds of the last line's JSON
ours() { "$bin/limn-bench" "$@" --log-level error | sed -n 's/.*"seconds": \([0-9.]*\).*/\1/p'; }
# seconds of 256 tokens, and of nine pictures
torch_sample() { "$python" "$peers/sample_torch.py" bf16 "$1" 10 | sed -n 's/.*256 steps \([0-9.]*\) s.*/\1/p'; }
torch_vqgan() {
    "$python" "$peers/vqgan_torch.py" "$1" 9 | sed -n "s/.*VQGAN $2 .*: \([0-9.]*\) images.*/\1/p" | awk '{print 9 / $1}'
}
# seconds of the fastest of its steps, as ours
torch_train() {
    "$python" "$peers/seq2seq_train_torch.py" "$1" 8 4 | sed -n 's/.* step \([0-9.]*\)s .*/\1/p' | sort -n | head -n 1
}

run_ours() {
    case $1 in
    train-*) ours train --config "$config/mini.json" --precision "${1#*-}" --batch 8 ;;
    mini-* | mega-*) ours sample --config "$config/${1%-*}.json" --precision "${1#*-}" --batch 9 --rounds 2 ;;
    decode | encode) ours "vqgan-$1" --config "$config/mini.json" --precision bf16 --batch 9 ;;
    *) ours "vqgan-${1%-*}" --config "$config/mini.json" --precision fp32 --batch 9 ;;
    esac
}
run_peer() {
    case $1 in
    train-*) torch_train "${1#*-}" ;;
    mini-* | mega-*) torch_sample "${1%-*}" ;;
    decode | encode) torch_vqgan bf16 "$1" ;;
    *) torch_vqgan fp32 "${1%-*}" ;;
    esac
}

echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $("$python" -c 'import torch; print("PyTorch", torch.__version__)')"
echo "| work | ours, s | peer, s | ratio | in each round |"
echo "|---|---|---|---|---|"
for work in "$@"; do
    case $work in
    mini-bf16 | mini-int8 | mega-bf16 | mega-int8 | decode | encode | decode-fp32 | encode-fp32 | train-bf16 | train-fp32) ;;
    *) echo "compare.sh: unknown work '$work'" >&2; exit 2 ;;
    esac
    for round in $(seq "$rounds"); do
        o=$(run_ours "$work")
        p=$(run_peer "$work")
        echo "$o $p"
    done | sort -n | awk -v work="$work" '
        { ours[NR] = $1; peer[NR] = $2; ratio[NR] = $2 / $1 }
        function median(a, n,   i, j, t) {
            for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
        }
        END {
            o = median(ours, NR); p = median(peer, NR); median(ratio, NR)
            printf "| %s | %.3f | %.3f | **%.2f** |", work, o, p, p / o
            for (i = 1; i <= NR; i++) printf " %.2f", ratio[i]
            print " |"
        }'
done
