"""The client and its process: restarts of the real server, the end of the program, forks, other programs' sockets."""

import os
import subprocess
import threading
import time

import pytest

from conftest import ENDLESS, PATIENCE_S, Fake, python, variable, wait_until
from mms_client import Client, ConnectionLost, MmsError

FINE = {"status": "success"}


class Restartable:
    """`mms serve` on a port that it keeps."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, 0, None
        self.start()

    def start(self):
        command = [variable("MMS_TEST_PROGRAM"), "serve", "--port", str(self.port), "--health-port", "0", "--http-port", "0"]
        env = {"PATH": os.environ.get("PATH", "")}
        self.process = subprocess.Popen(
            [*command, "--data-dir", "data"], cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.process.stdout:
            if line.startswith("main"):
                self.port = int(line.split()[1].rpartition(":")[2])
            if line.startswith("ready in"):
                return
        raise AssertionError("mms serve ended before it was ready")

    def end(self, how):
        how(self.process)
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path):
    server = Restartable(tmp_path)
    yield server
    server.end(subprocess.Popen.kill)


def test_a_restart_of_the_real_server(server):
    found = []

    def ask():
        try:
            client.generate("Once", timeout=3600, **ENDLESS)
        except MmsError as error:
            found.append(error)

    with Client(port=server.port, timeout=PATIENCE_S, connect_timeout=PATIENCE_S) as client:
        assert client.generate("Hello!", max_tokens=2)["text"]
        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: client.list_models()["models"][0]["active_requests"], "the generation")
        server.end(subprocess.Popen.kill)
        asking.join(PATIENCE_S)
        assert not asking.is_alive() and isinstance(found[0], ConnectionLost)
        # One that waits while nobody is there, and idle connections to the old process.
        waiting = threading.Thread(target=lambda: found.append(client.get_status()))
        waiting.start()
        server.start()
        waiting.join(PATIENCE_S)
        assert found[1]["status"] == "success"
        assert client.generate("Hello!", max_tokens=2)["text"]


def test_a_server_that_stands_still_is_noticed(server):
    import signal

    with Client(port=server.port, timeout=PATIENCE_S, connect_timeout=PATIENCE_S, heartbeat=0.25) as client:
        client.ping()
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(ConnectionLost):
                client.generate("Hello!", timeout=3600)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert client.ping()


def test_the_program_ends_although_nobody_closed_anything(suite):
    code = """
import asyncio, sys, threading, mms_client
client = mms_client.Client(sys.argv[1], retries=0)
client.ping()
threading.Thread(target=lambda: client.ping(), daemon=True).start()
asking = threading.Thread(target=lambda: mms_client.Client("127.0.0.1:1", connect_timeout=3600).ping(timeout=3600), daemon=True)
asking.start()
async def main():
    asynchronous = mms_client.AsyncClient(sys.argv[1])
    await asynchronous.ping()
    asyncio.create_task(mms_client.AsyncClient("127.0.0.1:1", connect_timeout=3600).ping(timeout=3600))
    await asyncio.sleep(0.05)
asyncio.run(main())
print("end")
"""
    done = python("-W", "ignore", "-c", code, suite.main)
    assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr


def test_a_child_process_goes_on_with_the_client(suite):
    code = """
import os, sys, mms_client
client = mms_client.Client(sys.argv[1])
first = client.ping()["request_id"]
child = os.fork()
for _ in range(20):
    assert client.ping()["request_id"] != first
if child == 0:
    client.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.ping()
client.close()
print("end")
"""
    done = python("-c", code, suite.main)
    assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr


def test_an_interrupted_request_leaves_a_sound_client():
    code = """
import os, signal, sys, threading, time, mms_client
client = mms_client.Client(sys.argv[1])
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    client.generate("Hello!", timeout=3600)
except KeyboardInterrupt:
    print(client.ping()["status"])
"""
    with Fake(lambda request, n: None if request["action"] == "generate" else FINE) as fake:
        done = python("-c", code, f"127.0.0.1:{fake.port}")
    assert (done.stdout, done.returncode) == ("success\n", 0), done.stderr


def test_no_sockets_are_left_behind(suite):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    def round_trip():
        with Client(suite.main) as client:
            client.ping()

    round_trip()
    before = open_files()
    for _ in range(30):
        round_trip()
    # libzmq's own thread closes them.
    deadline = time.monotonic() + PATIENCE_S
    while open_files() > before + 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_files() <= before + 5
