#!/usr/bin/env bash
# Builds the image mms:latest from optimized programs. They are compiled for x86-64-v3 (every server CPU since about 2015), not
# for this machine's own CPU, in a target folder of their own. BASE_IMAGE and IMAGE may be set.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! docker info >/dev/null 2>&1; then
    echo "image: no Docker engine answers (\`docker info\` fails); start one, or add this user to its group" >&2
    exit 1
fi
flags=
[ "$(uname -m)" = x86_64 ] && flags="-C target-cpu=x86-64-v3"
RUSTFLAGS=$flags CARGO_TARGET_DIR=target/image cargo build --release
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
scripts/image-context.sh target/image/release "$context"
docker build --tag "${IMAGE:-mms:latest}" --build-arg "BASE_IMAGE=${BASE_IMAGE:-debian:bookworm-slim}" "$context"
