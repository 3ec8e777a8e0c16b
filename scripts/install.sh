#!/usr/bin/env bash
# Builds optimized programs and copies mms and mms-worker to PREFIX/bin [~/.local/bin]. Both belong side by side: mms starts
# the worker that lies next to it.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${PREFIX:-$HOME/.local}/bin
cargo build --release
mkdir -p "$bin"
for program in mms mms-worker; do
    # Beside the old file and renamed, so that a running program is replaced whole.
    install -m 755 "target/release/$program" "$bin/.$program.new"
    mv "$bin/.$program.new" "$bin/$program"
done
echo "installed $("$bin/mms" --version) to $bin"
case ":$PATH:" in
    *":$bin:"*) ;;
    *) echo "note: $bin is not in PATH" ;;
esac
