#!/bin/sh
# download_bench.sh BIN VENV [PICTURES]: limn-download and img2dataset in turns over the same pictures from one nginx on loopback.
#   BIN       where limn-download is (build/bin)
#   VENV      a Python environment with img2dataset and Pillow
#   PICTURES  how many JPEGs of 640 px (default 4000); their originals are those of Debian's tuxpaint-stamps-default
# PEERS (default ../shared/peers) is the folder of make_www.py and run_img2dataset.sh, ROUNDS (default 3) how often each is run, WWW
# (default a temporary folder) where the pictures are kept for another run. nginx and GNU time must be installed.
# Whole processes are measured, start and end included; memory is that of the largest process. Last comes the PSNR of ours.
set -eu
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
bin=$1 venv=$2 count=${3:-4000}
peers=${PEERS:-../shared/peers} rounds=${ROUNDS:-3}
here=$(cd "$(dirname "$0")" && pwd)
for needed in nginx /usr/bin/time "$bin/limn-download" "$venv/bin/img2dataset" "$peers/make_www.py"; do
    command -v "$needed" >/dev/null || [ -r "$needed" ] || { echo "download_bench.sh: $needed is missing" >&2; exit 1; }
done
work=$(mktemp -d)
www=${WWW:-$work/www}
trap 'kill "$(cat "$work/nginx.pid" 2>/dev/null)" 2>/dev/null || :; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p "$www"
[ -s "$www/urls.$count" ] || {
    "$venv/bin/python" "$peers/make_www.py" "$www" "$count" http://127.0.0.1:PORT
    mv "$www/urls.tsv" "$www/urls.$count"
}
sed "s/PORT/$port/" "$www/urls.$count" >"$work/urls.tsv"
chmod 755 "$work"
cat >"$work/nginx.conf" <<END
user root;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/error.log;
events { worker_connections 4096; }
http {
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    server { listen 127.0.0.1:$port; root $www; }
}
END
nginx -c "$work/nginx.conf"

ours() { # DIR
    rm -rf "$1"
    /usr/bin/time -o "$work/time" -f '%e %U %S %M' "$bin/limn-download" --quiet --allow-private --input "$work/urls.tsv" \
        --output "$1" --shard-size 1000 ${OPTIONS:-}  >/dev/null
    cat "$work/time"
}
peer() {
    sh "$peers/run_img2dataset.sh" "$venv" "$work/urls.tsv" "$work/peer" 64 |
        sed -n 's/^img2dataset wall \([0-9.]*\) s, cpu \([0-9.]*\)+\([0-9.]*\) s, peak \([0-9]*\) kB.*/\1 \2 \3 \4/p'
}

echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $count pictures, $rounds rounds; img2dataset with 64 threads, ours as it comes"
for round in $(seq "$rounds"); do
    echo "ours $(ours "$work/ours")"
    echo "peer $(peer)"
done | awk -v count="$count" '
    { n[$1]++; who = $1; rate[who, n[who]] = count / $2; cpu[who, n[who]] = 1000 * ($3 + $4) / count; if ($5 > memory[who]) memory[who] = $5 }
    function median(a, who, m,   i, j, t) {
        for (i = 2; i <= m; i++) for (j = i; j > 1 && a[who, j] < a[who, j - 1]; j--) { t = a[who, j]; a[who, j] = a[who, j - 1]; a[who, j - 1] = t }
        return m % 2 ? a[who, (m + 1) / 2] : (a[who, m / 2] + a[who, m / 2 + 1]) / 2
    }
    END {
        for (i = 1; i <= n["ours"]; i++) each = each sprintf(" %.2f", rate["ours", i] / rate["peer", i])
        print "| | pictures/s | CPU ms a picture | memory, MB |\n|---|---|---|---|"
        o = median(rate, "ours", n["ours"]); p = median(rate, "peer", n["peer"])
        a = median(cpu, "ours", n["ours"]); b = median(cpu, "peer", n["peer"])
        printf "| limn-download | %.0f | %.2f | %.0f |\n", o, a, memory["ours"] / 1000
        printf "| img2dataset | %.0f | %.2f | %.0f |\n", p, b, memory["peer"] / 1000
        printf "| ratio | **%.2f** | 1/%.1f | %.2f |\n", o / p, b / a, memory["ours"] / memory["peer"]
        print "ratio of pictures/s in each round:" each
    }'
"$venv/bin/python" "$here/picture_psnr.py" "$work/ours" "$www"
