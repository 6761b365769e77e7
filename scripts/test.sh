#!/bin/sh
# Installs what the tests need (when it may), builds, and passes all tests.
#
# Peers that cannot be installed are left out: the tests that need them say so aloud.
set -eu
cd "$(dirname "$0")/.."

want="luajit2 lua5.1 nginx-light libnginx-mod-http-lua redis-server memcached lua-nginx-redis curl binutils"
want="$want lua-nginx-memcached lua-nginx-websocket lua-nginx-dns lua-resty-lrucache lua-nginx-string"
missing=
for p in $want; do
    dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1 ||
            echo "note: could not install:$missing"
    else
        echo "note: not installed (needs root and apt-get):$missing"
    fi
fi

cargo test --workspace --quiet
# The embedder's build: no C, no JIT, no server.
cargo check --quiet -p moonlit --no-default-features
sh scripts/check-handlers.sh
# The plain-loop dispatch, and the build without JIT, ffi and server: every case again, in a folder of its own
# so that the ordinary binary stays what it was.
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loop" cargo test --quiet -p moonlit --no-default-features --features loop --test lua
