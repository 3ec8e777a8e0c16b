#!/usr/bin/env bash
# Installs what a build needs and this machine lacks: a C++ compiler, cmake and libclang for llama.cpp. Prints nothing when
# everything is there. On Debian and Ubuntu it uses apt-get (as root, or through sudo); elsewhere it names what is missing.
set -euo pipefail

if ! command -v cargo >/dev/null; then
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        echo "setup: cargo is in $HOME/.cargo/bin, which is not in PATH; run: . \"$HOME/.cargo/env\"" >&2
    else
        echo "setup: cargo is missing; install Rust (1.90 or later) with rustup, then run this again" >&2
    fi
    exit 1
fi

. "$(dirname "$0")/packages.sh"

if command -v dpkg-query >/dev/null; then
    install_missing "the build" build-essential cmake clang libclang-dev pkg-config git ca-certificates
else
    missing=()
    for program in cc c++ make cmake clang git; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        echo "setup: please install ${missing[*]} and libclang with this system's package manager, then run this again" >&2
        exit 1
    fi
fi
