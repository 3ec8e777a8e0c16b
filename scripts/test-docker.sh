#!/usr/bin/env bash
# Builds the image from target/debug, starts docker-compose.yml for real and uses the service from outside: health check good,
# bad when the server is stopped, good again; smoke test through the published ports; not root; a clean end.
#
# It uses the Docker engine that answers, if one does. Otherwise, as root, it starts an engine of its own (private socket and
# data, no firewall rules) on a base image made with debootstrap, and ends it again. Where neither can be, it says why and ends
# with 77.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

work=$(mktemp -d /tmp/mms-docker-test.XXXXXX)
bridge_before=$(ip link show docker0 2>/dev/null || true)
engine=
container=
export COMPOSE_PROJECT_NAME=mms-test-$$ MMS_IMAGE=mms-test:$$ MMS_MODELS=$work/models

cannot() { echo "docker: not run: $*"; exit 77; }
fail() {
    echo "docker: FAILED: $*" >&2
    if [ -n "$container" ]; then docker logs --tail 40 "$container" >&2 || true; fi
    exit 1
}

clean_up() {
    local code=$?
    set +e
    if [ -n "$container" ]; then compose down --volumes --timeout 5 >"$work/down.log" 2>&1 || cat "$work/down.log"; fi
    docker image rm --force "$MMS_IMAGE" >/dev/null 2>&1
    if [ -n "$engine" ]; then
        kill "$engine"
        wait "$engine"
        [ -n "$bridge_before" ] || ip link delete docker0 2>/dev/null
    fi
    rm -rf "$work"
    exit "$code"
}
trap clean_up EXIT

compose() {
    local files=(--file docker-compose.yml --file "$work/faster.yml")
    if command -v docker-compose >/dev/null; then
        docker-compose --project-directory . "${files[@]}" "$@"
    else
        docker compose --project-directory . "${files[@]}" "$@"
    fi
}

start_engine() {
    [ "$(uname -s)" = Linux ] || cannot "no Docker engine answers, and on $(uname -s) this test cannot start one"
    [ "$(id -u)" -eq 0 ] || cannot "no Docker engine answers (\`docker info\` fails), and only root can start one for the test"
    command -v dpkg-query >/dev/null || cannot "no Docker engine answers, and this is no Debian from which to install one"
    install_missing "the container test" docker.io docker-compose debootstrap iproute2
    export DOCKER_HOST=unix://$work/docker.sock DOCKER_BUILDKIT=0
    local storage
    for storage in overlay2 vfs; do
        dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/docker.pid" \
            --iptables=false --ip6tables=false --ip-forward=false --storage-driver "$storage" >"$work/dockerd.log" 2>&1 &
        engine=$!
        for _ in $(seq 300); do
            if docker info >/dev/null 2>&1; then
                echo "docker: an engine of our own ($(docker info --format '{{.ServerVersion}}'), $storage)"
                return
            fi
            kill -0 "$engine" 2>/dev/null || break
            sleep 0.1
        done
        kill "$engine" 2>/dev/null || true
        wait "$engine" || true
        engine=
    done
    cannot "dockerd does not start here: $(grep -v level=info "$work/dockerd.log" | tail -n 3)"
}

# A base image. Debian's release must be the one that the programs were built on, so that they find their libc.
base_image() {
    local release=bookworm
    if [ -z "$engine" ]; then
        docker image inspect "debian:$release-slim" >/dev/null 2>&1 || docker pull --quiet "debian:$release-slim" >/dev/null ||
            cannot "the engine has no debian:$release-slim and cannot get it"
        base=debian:$release-slim
        return
    fi
    local cache=target/debootstrap-$release.tar
    if [ ! -f "$cache" ]; then
        echo "docker: making a base image with debootstrap"
        debootstrap --variant=minbase "$release" "$work/root" >"$work/debootstrap.log" 2>&1 ||
            cannot "debootstrap failed: $(tail -n 3 "$work/debootstrap.log")"
        tar --directory "$work/root" --create --file "$cache.new" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists .
        mv "$cache.new" "$cache"
    fi
    docker import "$cache" mms-test-base >/dev/null
    base=mms-test-base
}

free_ports() {
    python3 - <<'END'
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*[one.getsockname()[1] for one in held])
END
}

health() { docker inspect --format '{{.State.Health.Status}}' "$container"; }

# await_health WORD: until the health check says so; its own interval and retries bound the wait.
await_health() {
    for _ in $(seq 600); do
        [ "$(health)" = "$1" ] && return
        sleep 0.1
    done
    fail "health is $(health), not $1: $(docker inspect --format '{{json .State.Health.Log}}' "$container")"
}

docker info >/dev/null 2>&1 || start_engine
base_image
mkdir "$work/models" "$work/context"
scripts/image-context.sh "${CARGO_TARGET_DIR:-target}/debug" "$work/context"
docker build --quiet --network none --tag "$MMS_IMAGE" --build-arg "BASE_IMAGE=$base" "$work/context" >/dev/null
echo "docker: built the image"

# The same check, only more often, so that the test need not wait half a minute for each change.
cat >"$work/faster.yml" <<'END'
version: "3.7"
services:
  mms:
    restart: "no"
    healthcheck:
      test: ["CMD", "mms", "ping", "--timeout", "3"]
      interval: 1s
      timeout: 4s
      retries: 2
      start_period: 1s
END
read -r MMS_PORT MMS_HEALTH_PORT MMS_HTTP_PORT <<<"$(free_ports)"
export MMS_PORT MMS_HEALTH_PORT MMS_HTTP_PORT
container=starting
compose up --detach >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; container=; fail "compose up"; }
container=$(compose ps --quiet mms)

await_health healthy
mms=${CARGO_TARGET_DIR:-target}/debug/mms
outside=(--endpoint "tcp://127.0.0.1:$MMS_PORT" --http "http://127.0.0.1:$MMS_HTTP_PORT")
"$mms" ping "${outside[@]}" || fail "no answer through the published main port"
"$mms" smoke "${outside[@]}" || fail "smoke test through the published ports"
[ "$(docker exec "$container" id -u)" -ne 0 ] || fail "the server runs as root"

docker kill --signal STOP "$container" >/dev/null
await_health unhealthy
docker kill --signal CONT "$container" >/dev/null
await_health healthy
echo "docker: the health check follows the server down and up"

docker stop --time 40 "$container" >/dev/null
code=$(docker inspect --format '{{.State.ExitCode}}' "$container")
[ "$code" = 0 ] || fail "the server ended with exit code $code on SIGTERM"
echo "docker: built, started, used, stopped"
