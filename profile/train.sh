#!/bin/sh
# Makes release.profdata anew: builds programs that count, runs them over the benchmarks and a mixed load of the
# server, and merges the counts. Worth doing when hot code has changed or with another version of Rust: functions
# are found by their names, and these belong to a version.
#
#     sh profile/train.sh
#
# Then first.order: the functions that a short program and a freshly started server run, in the order of their first
# call. The linker puts them side by side: a page of code is read for what it holds, not for one function of it.
#
# Needs llvm-profdata of Rust's LLVM version (`rustup component add llvm-tools`, or $LLVM_PROFDATA), python3 and
# valgrind. Takes three release builds' time.
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

# rustc names the profile among what a crate was built from: everything is built again.
cargo build --release -p moonlit --bins
programs=${CARGO_TARGET_DIR:-$PWD/target}/release
seen=$target/seen
rm -rf "$seen"
mkdir -p "$seen"
watch="valgrind --tool=callgrind --demangle=no --callgrind-out-file=$seen/%p"
$watch "$programs/moonlit" -e '' 2>"$seen/log"
for mode in -joff -jon; do
    $watch "$programs/moonlit" "$mode" profile/first.lua >/dev/null 2>>"$seen/log"
done
printf '#!/bin/sh\nexec %s %s "$@" 2>>%s\n' "$watch" "$programs/moonlitd" "$seen/log" >"$seen/moonlitd"
chmod +x "$seen/moonlitd"
python3 scripts/serve/soak.py --server "$seen/moonlitd" --requests 2000 --connections 4 || true
# A function is named where it is met first; a clone for recursion (name'2) is the same one. What the programs have from C
# counts as well, what they call in other libraries does not.
nm "$programs/moonlitd" | awk '$2 ~ /[tT]/ { print $3 }' >"$seen/own"
for counted in $(ls "$seen" | grep '^[0-9]*$' | sort -n); do
    sed -n "s/^c\{0,1\}fn=([0-9]*) \([^ ']*\).*/\1/p" "$seen/$counted"
done | awk 'NR == FNR { own[$0]; next } $0 in own && !known[$0]++' "$seen/own" - >profile/first.order
wc -l profile/first.order
