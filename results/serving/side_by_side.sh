#!/bin/sh
# Live servers and our systems on the same requests, in one table (side-by-side.md).
#
# usage: side_by_side.sh MODEL OUTPUT name=URL[,name=URL...] [options of compare, which win over those below ...]
# MODEL: the folder of the model that every server has loaded, with its tokenizer.
# Runs are interleaved (A B B A), one at a time. Start the servers before, and leave the machine alone.
set -eu
model=$1 output=$2 servers=$3
shift 3
exec pagedbench compare --target "$servers,paged,orca-max" --model "$model" --device cpu \
    --max-model-len 256 --rate 1 --duration 6 --repeats 2 --output "$output" "$@"
