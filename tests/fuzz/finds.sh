#!/bin/sh
# finds.sh PROGRAM: planted faults are found, named, and given again by the command that is printed.
. "$(dirname "$0")/../shell.sh"
program=$1

for fault in crash complaint; do
    code=0
    PLANTED=$fault "$program" --count 200000 >out 2>err || code=$?
    [ "$code" = 1 ] || fail "$fault: ends with $code: $(cat err)"
    command=$(sed -n 's/.*repeat with: //p' err)
    [ -n "$command" ] || fail "$fault: no command that repeats it: $(cat err)"
    code=0
    PLANTED=$fault $command >out 2>err || code=$?
    [ "$code" != 0 ] || fail "$fault: '$command' does not repeat it"
done
code=0
"$program" --count 1000 >out 2>err || code=$?
[ "$code" = 0 ] || fail "something is found where there is nothing: $(cat err)"
grep -q "ok: 1000 executions" out || fail "no summary: $(cat out)"
