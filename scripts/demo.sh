#!/usr/bin/env bash
# From a fresh checkout to a served model: installs what is missing, builds, starts the suite, runs the smoke test and a first
# chat, and keeps serving until Ctrl-C. DEMO_EXIT=1 ends it after the chat. AGENT_PORT, HEALTH_PORT and HTTP_PORT choose other
# ports than 9901, 9902 and 9903; DATA_DIR another folder than target/demo.
#
# It builds with the dev profile: llama.cpp, the regular-expression and the cryptography code are optimized there as well, the
# rest compiles in a fraction of the time of a release build, and `make test` reuses all of it.
set -euo pipefail
cd "$(dirname "$0")/.."

export AGENT_PORT=${AGENT_PORT:-9901} HEALTH_PORT=${HEALTH_PORT:-9902} HTTP_PORT=${HTTP_PORT:-9903}
export MODEL_MANAGER_PORT=$AGENT_PORT DATA_DIR=${DATA_DIR:-target/demo}
server=

say() { printf '\n── %s\n' "$*"; }

end_server() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2>/dev/null || true
    local code=0
    wait "$server" || code=$?
    server=
    return "$code"
}

# Ctrl-C reaches only this script: the server runs in a session of its own and is asked to end just once.
interrupted() {
    trap - EXIT
    echo
    local code=0
    end_server || code=$?
    exit "$code"
}
trap interrupted INT TERM HUP
trap 'end_server || true' EXIT

# Before the long build: a port that is taken now will still be taken afterwards. `mms serve` names the process that holds it.
for port in "$AGENT_PORT" "$HEALTH_PORT" "$HTTP_PORT"; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "demo: port $port is in use; end what listens there, or choose others: AGENT_PORT=... HEALTH_PORT=... HTTP_PORT=... make demo" >&2
        exit 6
    fi
done

scripts/setup-build.sh
say "building mms and mms-worker (the first time takes minutes: llama.cpp is compiled)"
cargo build
mms=${CARGO_TARGET_DIR:-target}/debug/mms

say "starting: mms serve"
mkdir -p "$DATA_DIR"
log=$DATA_DIR/server.log
setsid "$mms" serve 2>"$log" &
server=$!
for _ in $(seq 600); do
    if "$mms" ping --timeout 1 >/dev/null 2>&1; then
        break
    fi
    if ! kill -0 "$server" 2>/dev/null; then
        code=0
        wait "$server" || code=$?
        server=
        cat "$log" >&2
        echo "demo: the server ended before it was ready" >&2
        exit "$([ "$code" -ne 0 ] && echo "$code" || echo 1)"
    fi
    sleep 0.1
done
"$mms" ping --timeout 5

say "smoke test: mms smoke"
"$mms" smoke

for question in "Hello!" "What is this product?" "How do I load a model?"; do
    say "mms generate \"$question\""
    "$mms" generate --temperature 0 --max-tokens 80 "$question"
done

if [ "${DEMO_EXIT:-}" = 1 ]; then
    say "DEMO_EXIT=1: ending the server"
    end_server
    exit 0
fi

cat <<END

── serving until Ctrl-C; it logs to ${log}. In another terminal:
   ${mms} chat
   curl http://127.0.0.1:${HTTP_PORT}/health
   curl http://127.0.0.1:${HTTP_PORT}/v1/chat/completions -H 'Content-Type: application/json' \\
        -d '{"model": "mms-demo", "messages": [{"role": "user", "content": "Hello!"}]}'
END
code=0
wait "$server" || code=$?
server=
exit "$code"
