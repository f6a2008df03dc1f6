# run_golden.sh PROGRAM PATH [argument…]
program=$1 path=$2
if [ ! -e "$path" ]; then
    echo "skipped: $path is not there"
    exit 77
fi
shift
exec "$program" "$@"
