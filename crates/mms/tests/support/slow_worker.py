#!/usr/bin/env python3
"""A worker whose load takes as long as a test wants: between the server and the real worker it passes on what both say, but as long as
the file `hold` is in the server's folder it says that 43 % are loaded, and keeps to itself that all is. WORKER is the real one."""

import os
import socket
import struct
import subprocess
import threading
import time

WORKER = "@WORKER@"

ours, theirs = socket.socketpair()
real = subprocess.Popen([WORKER], stdin=theirs)
theirs.close()
host = socket.socket(fileno=0)
saying = threading.Lock()


def frames(source):
    buffer = b""
    while True:
        while len(buffer) >= 4 and len(buffer) >= 4 + struct.unpack(">I", buffer[:4])[0]:
            end = 4 + struct.unpack(">I", buffer[:4])[0]
            yield buffer[4:end]
            buffer = buffer[end:]
        part = source.recv(65536)
        if not part:
            return
        buffer += part


def say(target, frame):
    with saying:
        target.sendall(struct.pack(">I", len(frame)) + frame)


def to_worker():
    for frame in frames(host):
        ours.sendall(struct.pack(">I", len(frame)) + frame)
    os._exit(0)


threading.Thread(target=to_worker, daemon=True).start()
for frame in frames(ours):
    if frame.startswith(b'{"type":"loaded"'):
        while os.path.exists("hold"):
            say(host, b'{"type":"loading","fraction":0.43}')
            time.sleep(0.05)
    say(host, frame)
os._exit(real.wait())
