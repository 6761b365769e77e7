#!/bin/sh
# cargo calls this in the place of rustc, with rustc and its arguments. Optimised builds get the profile of a run
# (release.profdata and first.order, made by train.sh); all others pass unchanged.
#
# MOONLIT_PROFILE=off           no profile
# MOONLIT_PROFILE=train:FOLDER  the program counts, and writes what it counted into FOLDER
here=$(dirname "$0")
case " $* " in
*" opt-level=3 "*) ;;
*) exec "$@" ;;
esac
# Functions are found by their names: these ones do not change with the fields of the types that they mention.
set -- "$@" -Csymbol-mangling-version=v0
case "${MOONLIT_PROFILE:-on}" in
on) ;;
train:*) exec "$@" -Cprofile-generate="${MOONLIT_PROFILE#train:}" ;;
*) exec "$@" ;;
esac
profile=$(cd "$here" && pwd)
# Code that has changed since is compiled without its counts, not with wrong ones; that needs no warning.
set -- "$@" -Cprofile-use="$profile/release.profdata" -Cllvm-args=-no-pgo-warn-mismatch
# The linker that rustc brings along for this system can place functions in a given order, and knows the short form of
# relocations. Whoever names a linker or another target gets neither.
case "$(uname -sm) $* " in
*" --target"*|*linker*|*fuse-ld*) ;;
"Linux x86_64 "*" --crate-type bin "*)
    set -- "$@" -Clink-arg=-Wl,-z,pack-relative-relocs \
        "-Clink-arg=-Wl,--symbol-ordering-file=$profile/first.order,--no-warn-symbol-ordering" ;;
esac
exec "$@"
