#!/bin/sh
# Builds moonlitd and starts the gateway in the foreground; Ctrl-C ends it.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --bin moonlitd
mkdir -p examples/gateway/logs
echo "gateway: http://127.0.0.1:8080/  try: curl -H 'X-Api-Key: demo' http://127.0.0.1:8080/api/hello?name=you"
exec "${CARGO_TARGET_DIR:-target}/release/moonlitd" -p examples/gateway -c nginx.conf -g 'daemon off;'
