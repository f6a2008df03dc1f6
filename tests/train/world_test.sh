# world_test.sh PROGRAMS WITH_MPI: jobs of several ranks on this machine, and how they end.
programs=$1 with_mpi=$2 tests=$(cd "$(dirname "$0")/.." && pwd)
. "$(dirname "$0")/../shell.sh"
PATH=$programs:$PATH

# Started by hand as one of three: the environment says what MPI does not see, or what this Limn cannot do.
if [ "$with_mpi" = no ]; then
    expect 1 'apt-get install libopenmpi-dev openmpi-bin' env OMPI_COMM_WORLD_SIZE=3 world-end
    echo "built without MPI: jobs of several ranks are not tested"
    exit 0
fi
[ "$(env -u OMPI_COMM_WORLD_SIZE SLURM_NTASKS=4 SLURM_PROCID=0 world-end)" = 1 ] || fail "a batch script is taken for a job of four"
if ! command -v mpirun >/dev/null; then
    echo "no mpirun: jobs of several ranks are not tested"
    exit 0
fi
. "$tests/ranks.sh"
expect 1 'srun started 3 processes, but MPI sees 1' env SLURM_STEP_NUM_TASKS=3 world-end

for ranks in 1 2 3 4; do
    for subject in world exchange shared_state; do
        job $ranks test-train-$subject >log 2>&1 || fail "$subject, $ranks ranks: $(grep -v '\[ *\(RUN\|OK\) *\]' log | head -n 20)"
        [ "$(grep -c '  PASSED  ' log)" = $ranks ] || fail "$subject: not all of $ranks ranks have passed: $(cat log)"
    done
    [ "$(job $ranks world-end 2>/dev/null)" = $((ranks * ranks)) ] || fail "$ranks ranks do not sum to the end"
done

# ends HOW WORDS: a job of three ends by itself, not well, and exactly one line of ours says why (none where WORDS are empty).
ends() {
    code=0
    job 3 world-end "$1" >out 2>err || code=$?
    [ $code != 0 ] && [ $code != 124 ] || fail "$1: the job ends with $code: $(cat out err)"
    grep '^world-end: ' err >lines || true
    if [ -n "$2" ]; then
        [ "$(cat lines)" = "world-end: $2" ] || fail "$1: says $(cat lines)"
    else
        [ ! -s lines ] || fail "$1: says $(cat lines)"
    fi
    [ ! -s out ] || fail "$1: goes on: $(cat out)"
}
ends one "rank 1 of 3: shard 7 is gone"
ends all "rank 0 of 3: shard 7 is gone"
ends disagree "rank 1 of 3: shard 1 is gone"
ends killed ""
echo done
