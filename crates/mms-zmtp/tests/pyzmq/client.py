"""libzmq as the client of our server: `client.py CASE ENDPOINT`. Exit status 0 when everything was as ZeroMQ users expect it.

The server echoes every body; one that begins with `never` is not answered.
"""

import sys
import threading
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

PATIENCE_MS = 60_000
context = zmq.Context()


def connect(kind, endpoint, **options):
    socket = context.socket(kind)
    socket.linger = 0
    socket.rcvtimeo = socket.sndtimeo = PATIENCE_MS
    for name, value in options.items():
        socket.setsockopt(getattr(zmq, name), value)
    socket.connect(endpoint)
    return socket


def ask(socket, *frames):
    socket.send_multipart(frames)
    return socket.recv_multipart()


def expect(got, *frames):
    assert got == list(frames), f"got {str(got)[:200]}, expected {str(frames)[:200]}"


def next_event(monitor, wanted):
    """Waits for one of the wanted events of a socket and gives all that came until then."""
    seen = []
    while not seen or not seen[-1] & wanted:
        assert monitor.poll(PATIENCE_MS), f"no such event, only {seen}"
        seen.append(recv_monitor_message(monitor)["event"])
    return seen


def req(endpoint):
    socket = connect(zmq.REQ, endpoint)
    for frames in ([b"one"], [b""], [b"a", b"", b"b"], [b"x" * 255], [b"x" * 256], [b"x" * 100_000, b"y"]):
        expect(ask(socket, *frames), *frames)
    socket.send(b"part", zmq.SNDMORE)
    socket.send(b"", zmq.SNDMORE)
    socket.send(b"last")
    expect(socket.recv_multipart(), b"part", b"", b"last")


def req_relaxed(endpoint):
    socket = connect(zmq.REQ, endpoint, REQ_CORRELATE=1, REQ_RELAXED=1)
    expect(ask(socket, b"one"), b"one")
    socket.send(b"never")
    expect(ask(socket, b"two"), b"two")


def dealer(endpoint):
    socket = connect(zmq.DEALER, endpoint)
    expect(ask(socket, b"", b"with"), b"", b"with")
    expect(ask(socket, b"without"), b"without")
    expect(ask(socket, b"id", b"", b"body", b"", b"more"), b"id", b"", b"body", b"", b"more")
    socket.send(b"never")
    expect(ask(socket, b"", b"overtakes"), b"", b"overtakes")


def dealer_flood(endpoint):
    count = 10_000
    socket = connect(zmq.DEALER, endpoint, SNDHWM=0, RCVHWM=1)
    for number in range(count):
        socket.send_multipart([b"%d" % number, b"", b"x" * 2000])
    other = connect(zmq.REQ, endpoint)
    expect(ask(other, b"not blocked"), b"not blocked")
    numbers = sorted(int(socket.recv_multipart()[0]) for _ in range(count))
    assert numbers == list(range(count)), "a reply was lost or came twice"
    assert not socket.poll(200), "a reply too many"


def router(endpoint):
    socket = connect(zmq.ROUTER, endpoint, CONNECT_ROUTING_ID=b"server", ROUTER_MANDATORY=1)
    expect(ask(socket, b"server", b"", b"body"), b"server", b"", b"body")


def identities(endpoint):
    sockets = [connect(zmq.DEALER, endpoint, IDENTITY=b"same") for _ in range(5)]
    for number, socket in enumerate(sockets):
        socket.send_multipart([b"", b"%d" % number])
    for number, socket in enumerate(sockets):
        expect(socket.recv_multipart(), b"", b"%d" % number)


def large(endpoint):
    socket = connect(zmq.REQ, endpoint)
    body = bytes(range(256)) * (16 << 12)
    expect(ask(socket, body), body)
    expect(ask(socket, b"small", body[: 12 << 20]), b"small", body[: 12 << 20])


def oversized(endpoint):
    socket = connect(zmq.REQ, endpoint)
    [reply] = ask(socket, b"x" * (64 << 20))
    assert b"67108864 bytes is larger than the limit" in reply, reply
    [reply] = ask(socket, *[b"f"] * 1000)
    assert b"1001 frames has more than the limit" in reply, reply
    expect(ask(socket, b"and on"), b"and on")


def heartbeats(endpoint):
    socket = connect(zmq.REQ, endpoint, HEARTBEAT_IVL=30, HEARTBEAT_TTL=1000, HEARTBEAT_TIMEOUT=5000)
    monitor = socket.get_monitor_socket()
    expect(ask(socket, b"one"), b"one")
    time.sleep(0.5)
    expect(ask(socket, b"two"), b"two")
    lost = zmq.EVENT_DISCONNECTED
    while monitor.poll(0):
        assert recv_monitor_message(monitor)["event"] != lost, "the connection was lost in between"


def reconnect(endpoint):
    """The server is restarted between the two lines on standard input."""
    sockets = [connect(zmq.REQ, endpoint, RECONNECT_IVL=10), connect(zmq.DEALER, endpoint, RECONNECT_IVL=10)]
    for socket in sockets:
        expect(ask(socket, b"before"), b"before")
    print("ready", flush=True)
    assert sys.stdin.readline() == "restarted\n"
    for socket in sockets:
        expect(ask(socket, b"after"), b"after")


def wrong_types(endpoint):
    for kind in (zmq.PUB, zmq.SUB, zmq.XPUB, zmq.XSUB, zmq.PUSH, zmq.PULL, zmq.PAIR, zmq.REP):
        socket = context.socket(kind)
        socket.linger = 0
        monitor = socket.get_monitor_socket()
        socket.connect(endpoint)
        # No such pair ever counts as connected.
        seen = next_event(monitor, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in seen, seen
        socket.disable_monitor()
        socket.close()
    expect(ask(connect(zmq.REQ, endpoint), b"and on"), b"and on")


def curve(endpoint):
    public, secret = zmq.curve_keypair()
    socket = context.socket(zmq.REQ)
    socket.linger = 0
    socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = public, secret, public
    monitor = socket.get_monitor_socket()
    socket.connect(endpoint)
    failed = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED
    assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in next_event(monitor, failed)
    expect(ask(connect(zmq.REQ, endpoint), b"and on"), b"and on")


def many(endpoint):
    """50 clients at once; every second one leaves without waiting for its reply."""
    failures = []

    def one(number):
        try:
            socket = connect(zmq.REQ, endpoint)
            for round in range(20):
                body = b"%d %d" % (number, round)
                expect(ask(socket, body), body)
            if number % 2:
                socket.send(b"never")
            socket.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def send_and_leave(endpoint):
    """What was sent before a socket was closed in good order still arrives."""
    socket = connect(zmq.DEALER, endpoint, LINGER=PATIENCE_MS)
    for number in range(100):
        socket.send(b"%d" % number)
    socket.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
    context.destroy(linger=0 if sys.argv[1] != "send_and_leave" else PATIENCE_MS)
