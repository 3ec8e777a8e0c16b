"""Servers under test. They are started by `cargo test -p mms --test python`, which names their addresses in the environment."""

import os
import time

import pytest
import zmq

PATIENCE_MS = 60_000  # longest wait for one reply; only a hang takes as long


class Server:
    """Addresses of one running server, and clients that look like those of its users."""

    def __init__(self, name: str):
        self.name = name
        prefix = f"MMS_TEST_{name.upper()}"
        try:
            self.main, self.health, self.http = (os.environ[f"{prefix}_{part}"] for part in ("MAIN", "HEALTH", "HTTP"))
        except KeyError as missing:
            raise pytest.UsageError(
                f"{missing.args[0]} is not set: these tests need running servers; `cargo test -p mms --test python` starts them"
            ) from None

    def socket(self, kind: int = zmq.REQ, endpoint: str | None = None, **options) -> zmq.Socket:
        """A connected socket; `options` are pyzmq's attributes, set before it connects."""
        socket = zmq.Context.instance().socket(kind)
        socket.linger = 0
        socket.rcvtimeo = socket.sndtimeo = PATIENCE_MS
        for name, value in options.items():
            setattr(socket, name, value)
        socket.connect(endpoint or self.main)
        return socket

    def ask(self, request: object) -> dict:
        """One request of a client that comes, asks and goes."""
        with self.socket() as socket:
            socket.send_json(request)
            return socket.recv_json()

    def answers(self) -> None:
        """The server still does what it is there for."""
        reply = self.ask({"action": "ping"})
        assert reply["agent"], reply


@pytest.fixture(scope="session")
def suite() -> Server:
    return Server("suite")


@pytest.fixture(scope="session")
def legacy() -> Server:
    return Server("legacy")


@pytest.fixture(scope="session", autouse=True)
def end_of_zmq():
    yield
    zmq.Context.instance().destroy(linger=0)


def wait_until(condition, what: str, patience_s: float = 60):
    """Polls; the bound is only there for a server that never gets there."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")
