# How tests start jobs of several ranks; sourced. OpenMPI's mpirun refuses root and more ranks than cores, unless told; MPICH's does
# neither and knows no such options.
mpirun_options=
if command -v mpirun >/dev/null && mpirun --version 2>&1 | grep -q 'Open MPI'; then
    mpirun_options="--oversubscribe --bind-to none"
    [ "$(id -u)" != 0 ] || mpirun_options="$mpirun_options --allow-run-as-root"
fi
# MPI libraries leave memory behind that the address sanitizer would report; ours is looked at in the world of one rank.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

# job RANKS COMMAND…
job() {
    ranks=$1
    shift
    # Word splitting is meant.
    # shellcheck disable=SC2086
    timeout 120 mpirun -n "$ranks" $mpirun_options "$@"
}
