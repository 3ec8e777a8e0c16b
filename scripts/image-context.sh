#!/usr/bin/env bash
# image-context.sh BINARIES CONTEXT: puts what the Dockerfile copies into the folder CONTEXT.
set -euo pipefail
cd "$(dirname "$0")/.."

binaries=$1 context=$2
mkdir -p "$context"
install -m 755 "$binaries/mms" "$binaries/mms-worker" "$context/"
install -m 644 Dockerfile LICENSE-MIT LICENSE-APACHE "$context/"
