#!/bin/sh
# Builds Limn and runs its tests under ctest. Installs packages that are missing.
#
#   ./test.sh              release build, all tests: under 15 minutes on two cores
#   ./test.sh --sanitize   the same with the address and undefined-behaviour sanitizers
#   ./test.sh --long       also the long ones: the quickstart, and that its drawings are what was asked for
#   ./test.sh --fuzz       every reader on hostile input by clang's libFuzzer, a minute each, one on each core. After it, if you
#                          like, --seconds S or --count N (executions), and the names of readers: --count 10000000 tar exif
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
        --fuzz) label=fuzz preset=fuzz build=build-fuzz ;;
        --bench) label=bench ;;
        --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) break ;;
    esac
    shift
done

if [ "$label" = fuzz ]; then
    if ! sh scripts/install_packages.sh fuzz || ! command -v clang >/dev/null; then
        echo "test.sh: fuzzing needs clang and its libFuzzer, which are not here: apt-get install clang libclang-rt-dev libomp-dev" >&2
        exit 1
    fi
else
    sh scripts/install_packages.sh
fi
cmake --preset "$preset" >/tmp/limn-configure.$$ || { cat /tmp/limn-configure.$$; rm -f /tmp/limn-configure.$$; exit 1; }
rm -f /tmp/limn-configure.$$
cmake --build --preset "$preset" -j "$(nproc)"

case $label in
    "") exec ctest --preset "$preset" -j "$(nproc)" -LE long "$@" ;;
    long) exec ctest --preset "$preset" -j "$(nproc)" "$@" ;;
    fuzz)
        limit="--seconds 60"
        case ${1:-} in
            --seconds | --count)
                limit="$1 ${2:?"how many follow $1"}"
                shift 2 ;;
        esac
        [ $# -gt 0 ] || set -- $(ls "$build/bin" | sed -n 's/^fuzz-//p')
        # Word splitting is meant. Exit code 123: some run found something.
        # shellcheck disable=SC2086
        printf '%s\n' "$@" | xargs -P "$(nproc)" -I NAME sh tests/fuzz/fuzz.sh "$build/bin/fuzz-NAME" $limit || exit 1 ;;
    bench)
        "$build/bin/bench-convolution"
        "$build/bin/limn-bench" matmul
        "$build/bin/limn-bench" train --config configs/mini.json --precision fp32 --batch 8
        sh tests/bench/convert_bench.sh "$build/bin" "$build/bench" configs/mini.json ;;
esac
