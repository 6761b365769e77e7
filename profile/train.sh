#!/bin/sh
# Makes release.profdata anew: builds programs that count, runs them over the benchmarks and a mixed load of the
# server, and merges the counts. Worth doing when hot code has changed or with another version of Rust: functions
# are found by their names, and these belong to a version.
#
#     sh profile/train.sh
#
# Needs llvm-profdata of Rust's LLVM version (`rustup component add llvm-tools`, or $LLVM_PROFDATA) and python3.
# Takes two release builds' time.
set -eu
cd "$(dirname "$0")/.."
merge=${LLVM_PROFDATA:-$(ls "$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-profdata 2>/dev/null || command -v llvm-profdata)}
target=${CARGO_TARGET_DIR:-$PWD/target}/train
counts=$target/counts
rm -rf "$counts"
mkdir -p "$counts"

CARGO_TARGET_DIR=$target MOONLIT_PROFILE=train:$counts cargo build --release -p moonlit --bins
# One file for all processes of a program: a worker does not know its own number when it is forked.
export LLVM_PROFILE_FILE="$counts/%m.profraw"
for program in benches/lua/*.lua; do
    for mode in -joff -jon; do
        echo "$program $mode"
        "$target/release/moonlit" "$mode" "$program" >/dev/null 2>&1
    done
done
# What the load finds out about the server does not matter here.
python3 scripts/serve/soak.py --server "$target/release/moonlitd" --requests 100000 || true
"$merge" merge -sparse -o profile/release.profdata "$counts"/*.profraw
ls -l profile/release.profdata
