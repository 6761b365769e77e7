#!/bin/sh
# Disassembles the interpreter's handlers in the built binary and fails on an indirect call:
# every handler must end in a tail jump, or the threaded interpreter would eat the native stack.
set -eu
cd "$(dirname "$0")/.."
bin=${1:-${CARGO_TARGET_DIR:-target}/debug/moonlit}
command -v objdump >/dev/null || { echo "note: no objdump, handlers not checked"; exit 0; }
objdump -d --no-show-raw-insn "$bin" | awk '
    /^[0-9a-f]+ <.*>:$/ { name = $2; handler = name ~ /interp8handlers[0-9]+[a-z]+[0-9]+[A-Z][A-Z0-9]*(17h|>)/; if (handler) count++ }
    handler && /call +\*/ { print "indirect call in handler " name ": " $0; bad = 1 }
    END {
        if (count < 80) { print "only " count " handlers found in the binary"; exit 1 }
        if (!bad) print count " handlers, no indirect call"
        exit bad
    }'
