"""Servers under test: real ones, started by `cargo test -p mms --test python`, which names them in the environment, and one that
misbehaves as it is told (`Fake`)."""

from __future__ import annotations

import heapq
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
import zmq

from mms_client import Client

PATIENCE_S = 60.0  # longest wait for anything; only a hang takes as long
PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]


def variable(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise pytest.UsageError(
            f"{name} is not set: these tests need running servers; `cargo test -p mms --test python` starts them"
        ) from None


class Server:
    """Addresses of a running server."""

    def __init__(self, name: str):
        self.main, self.http = (variable(f"MMS_TEST_{name}_{part}") for part in ("MAIN", "HTTP"))

    @property
    def port(self) -> int:
        return int(self.main.rpartition(":")[2])

    def client(self, **settings: Any) -> Client:
        return Client(self.main, http=self.http, timeout=PATIENCE_S, work_timeout=PATIENCE_S, **settings)


    def cancelled(self, dialect: str) -> int:
        """How many requests have ended since nobody waited for them any more, by the server's own count."""
        with urllib.request.urlopen(f"{self.http}/metrics", timeout=PATIENCE_S) as response:
            text = response.read().decode()
        counts = re.findall(rf'^mms_requests_total{{.*dialect="{dialect}",outcome="cancelled"}} (\d+)$', text, re.MULTILINE)
        return sum(map(int, counts))


# Goes on until its context is full, which takes a second or more; nobody waits for that.
ENDLESS = {"raw": True, "grammar": "root ::= [a-z ] root", "max_tokens": 100_000}


@pytest.fixture(scope="session")
def suite() -> Server:
    return Server("SUITE")


@pytest.fixture(scope="session")
def legacy() -> Server:
    return Server("LEGACY")


@pytest.fixture
def client(suite: Server):
    with suite.client() as client:
        yield client


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("MODEL_MANAGER_HOST", "MODEL_MANAGER_PORT", "HTTP_PORT"):
        monkeypatch.delenv(name, raising=False)


class Fake:
    """A server on a free port that answers each request with what `script` gives for it: a dict (the request's id is added), bytes,
    a list of bytes (frames), a pair (seconds, one of these), or None for no answer at all."""

    def __init__(self, script: Callable[[dict, int], Any], port: Optional[int] = None):
        self.script = script
        self.requests: list[dict] = []
        self._clients: list[Client] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        if port is None:
            self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        else:
            self.port = port
            patiently(lambda: self._socket.bind(f"tcp://127.0.0.1:{port}"))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def names(self) -> list[str]:
        return [request.get("action", "") for request in self.requests]

    def client(self, **settings: Any) -> Client:
        """Closed when the server ends, at the latest."""
        client = Client(port=self.port, **{"timeout": PATIENCE_S, "connect_timeout": PATIENCE_S, **settings})
        self._clients.append(client)
        return client

    def stop(self) -> None:
        """Closes the port and every connection."""
        self._ended.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def __enter__(self) -> "Fake":
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self.stop()

    def _serve(self) -> None:
        later: list[tuple[float, int, list[bytes]]] = []
        order = itertools.count()
        while not self._ended.is_set():
            while later and later[0][0] <= time.monotonic():
                self._socket.send_multipart(heapq.heappop(later)[2])
            if not self._socket.poll(5):
                continue
            peer, empty, body = self._socket.recv_multipart()
            request = json.loads(body)
            self.requests.append(request)
            reply = self.script(request, len(self.requests))
            delay, reply = reply if isinstance(reply, tuple) else (0.0, reply)
            if reply is None:
                continue
            if isinstance(reply, dict):
                reply = json.dumps({"request_id": request.get("request_id"), **reply}).encode()
            frames = reply if isinstance(reply, list) else [reply]
            heapq.heappush(later, (time.monotonic() + delay, next(order), [peer, empty, *frames]))
        self._socket.close(linger=0)
        self._context.term()


def patiently(action: Callable[[], Any]) -> Any:
    """Tries again until it works; what has just been closed may take a moment to be free."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except (OSError, zmq.ZMQError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"never came: {what}")


def python(*args: str, cwd: Optional[Path] = None, **environment: str) -> subprocess.CompletedProcess:
    """Another Python with the package in its path; it must end by itself."""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE / "src"), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        [sys.executable, *args], env=env, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def busy(retry_after_ms: int = 1) -> dict:
    """The server's refusal of a full queue."""
    error = {"code": "queue_full", "message": "full", "retry_after_ms": retry_after_ms}
    return {"status": "error", "message": "full", "error": error}
