#!/bin/sh
# Runs one fuzz program of the preset fuzz and sums up in one line; exit code 1 on a finding.
#
#   tests/fuzz/fuzz.sh build-fuzz/bin/fuzz-tar [--seconds S | --count N]
#
# The corpus stays in build-fuzz/corpus/tar, so that the next run goes on from it; what libFuzzer says goes to
# build-fuzz/log/tar.log, findings to build-fuzz/findings/.
set -eu
program=$1
shift
name=${program##*/fuzz-}
folder=$(dirname "$(dirname "$program")")
[ -x "$program" ] || { echo "$program: no such fuzz program"; exit 1; }
mkdir -p "$folder/log" "$folder/findings" "$folder/corpus"
log=$folder/log/$name.log

code=0
result=$("$program" "$@" --corpus "$folder/corpus/$name" --findings "$folder/findings" 2>"$log") || code=$?
coverage=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
case $code in
    0) echo "$result, $coverage edges covered, no finding" ;;
    130) echo "fuzz-$name: stopped" ;;
    *)
        code=1
        # The sanitizer's sentence, or the target's own complaint, then the command that gives the input again.
        { grep -a 'SUMMARY:\|runtime error:' "$log" || grep -a "^fuzz-$name: " "$log" | grep -av 'repeat with'; } | head -n 1
        grep -a 'repeat with' "$log" | tail -n 1 ;;
esac
exit "$code"
