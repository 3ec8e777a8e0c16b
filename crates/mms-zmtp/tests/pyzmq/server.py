"""libzmq as the server of our clients: `server.py KIND`. Prints its endpoint, echoes every body, and ends with its standard input.

KIND is a socket type in lower case; `reversed` is a ROUTER that answers ten requests at a time, the last first; `curve` is a REP
that requires CURVE; `heartbeats` is a REP that sends PINGs and drops peers that do not answer.
"""

import os
import sys
import threading

import zmq

KINDS = {"reversed": zmq.ROUTER, "curve": zmq.REP, "heartbeats": zmq.REP}


def main(kind):
    socket = zmq.Context().socket(KINDS.get(kind) or getattr(zmq, kind.upper()))
    if kind == "curve":
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.curve_server = True
    if kind == "heartbeats":
        socket.heartbeat_ivl, socket.heartbeat_timeout, socket.heartbeat_ttl = 30, 1000, 1000
    socket.setsockopt(zmq.IDENTITY, b"py")
    socket.bind("tcp://127.0.0.1:*")
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"), flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    if socket.type not in (zmq.REP, zmq.ROUTER):
        threading.Event().wait()
    batch = 10 if kind == "reversed" else 1
    while True:
        messages = [socket.recv_multipart() for _ in range(batch)]
        for message in reversed(messages):
            socket.send_multipart(message)


main(sys.argv[1])
