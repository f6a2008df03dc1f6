#!/bin/sh
# limn-download on several machines started by mpirun (OpenMPI's; it passes no messages, only starts one process a machine), for
# clusters without Slurm. Copy this, change what is marked, then: sh limn-download-mpirun.sh
#
# The processes share one output: each claims shards that are neither finished nor another's, and all end when all is done. The same
# command again goes on, with as many machines as you like.

# Change: every machine must see these. `claims` is a folder for this output alone, on a file system that locks files over the network.
limn=/shared/limn/bin/limn-download
list=/shared/lists/cc12m.tsv
output=/shared/pairs/cc12m
claims=/shared/pairs/cc12m-claims
hosts=machine1,machine2,machine3  # change

# --bind-to none: each process has all cores of its machine.
exec mpirun --host "$hosts" --map-by ppr:1:node --bind-to none \
    "$limn" --input "$list" --columns url,caption --output "$output" --coordinate "$claims" --size 256 --concurrency 512
