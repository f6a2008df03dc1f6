#!/bin/sh
# Builds Limn and runs its tests under ctest. Installs packages that are missing.
#
#   ./test.sh              release build, all tests: under 15 minutes on two cores
#   ./test.sh --sanitize   the same with the address and undefined-behaviour sanitizers
#   ./test.sh --long       also the long ones: the quickstart, and that its drawings are what was asked for
#   ./test.sh --fuzz       every fuzz target for ten million executions, or an hour
#   ./test.sh --bench      the benchmarks
# What follows is given to ctest: ./test.sh -R nn
set -eu
cd "$(dirname "$0")"

preset=release build=build
label=
while [ $# -gt 0 ]; do
    case $1 in
        --sanitize) preset=sanitize build=build-sanitize ;;
        --long) label=long ;;
        --fuzz) label=fuzz ;;
        --bench) label=bench ;;
        --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) break ;;
    esac
    shift
done

sh scripts/install_packages.sh
cmake --preset "$preset" >/tmp/limn-configure.$$ || { cat /tmp/limn-configure.$$; rm -f /tmp/limn-configure.$$; exit 1; }
rm -f /tmp/limn-configure.$$
cmake --build --preset "$preset" -j "$(nproc)"

case $label in
    "") exec ctest --preset "$preset" -j "$(nproc)" -LE long "$@" ;;
    long) exec ctest --preset "$preset" -j "$(nproc)" "$@" ;;
    fuzz)
        for target in "$build"/bin/fuzz-*; do
            timeout 3600 "$target" --count 10000000 || [ $? = 124 ] || exit 1
        done ;;
    bench)
        "$build/bin/bench-convolution"
        "$build/bin/limn-bench" matmul
        "$build/bin/limn-bench" train --config configs/mini.json --precision fp32 --batch 8 ;;
esac
