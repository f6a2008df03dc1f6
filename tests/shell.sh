# What tests of programs share, sourced first: an empty folder to work in, and how an outcome is judged.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() {
    echo "FAILED: $*"
    exit 1
}

# expect STATUS WORDS COMMAND…: the exit code, and words of the one line on stderr.
expect() {
    status=$1 words=$2
    shift 2
    code=0
    "$@" >out 2>err </dev/null || code=$?
    [ "$code" = "$status" ] || fail "$* ends with $code, not $status: $(cat err)"
    grep -q -- "$words" err || fail "$* does not say '$words': $(cat err)"
    [ "$status" = 0 ] || [ "$(grep -cv '^\[hwloc' err)" = 1 ] || fail "$* says more than one line: $(cat err)"
}
