#!/bin/sh
# cargo calls this in the place of rustc, with rustc and its arguments. Optimised builds get the profile of a run
# (release.profdata, made by train.sh); all others pass unchanged.
#
# MOONLIT_PROFILE=off           no profile
# MOONLIT_PROFILE=train:FOLDER  the program counts, and writes what it counted into FOLDER
case " $* " in
*" opt-level=3 "*) ;;
*) exec "$@" ;;
esac
# Functions are found by their names: these ones do not change with the fields of the types that they mention.
set -- "$@" -Csymbol-mangling-version=v0
case "${MOONLIT_PROFILE:-on}" in
on)
    profile=$(cd "$(dirname "$0")" && pwd)/release.profdata
    # Code that has changed since is compiled without its counts, not with wrong ones; that needs no warning.
    exec "$@" -Cprofile-use="$profile" -Cllvm-args=-no-pgo-warn-mismatch
    ;;
train:*) exec "$@" -Cprofile-generate="${MOONLIT_PROFILE#train:}" ;;
*) exec "$@" ;;
esac
