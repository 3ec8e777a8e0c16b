#!/usr/bin/env python3
"""Speaks the worker's protocol and does as the file `orders` beside it says, so that tests decide what a plan or a load gives.

Every plan and load is written to `log`. A resident fake grows by as many MiB as the file `grow-MODEL` says.
"""

import json
import os
import socket
import struct
import sys
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "orders")) as file:
    orders = json.load(file)
host = socket.socket(fileno=0)
saying = threading.Lock()


def hear():
    def exactly(length):
        data = b""
        while len(data) < length:
            part = host.recv(length - len(data))
            if not part:
                os._exit(0)
            data += part
        return data

    return json.loads(exactly(struct.unpack(">I", exactly(4))[0]))


def say(message):
    data = json.dumps(message).encode()
    with saying:
        host.sendall(struct.pack(">I", len(data)) + data)


def log(word, spec):
    with open(os.path.join(here, "log"), "a") as file:
        file.write(f"{word} {spec['model_id']}\n")


def plan():
    what = orders["plan"]
    if what == "hang":
        time.sleep(3600)
    elif what == "die":
        sys.exit("the plan was too much for me")
    elif what == "refuse":
        say({"type": "load_failed", "reason": "the tensors are upside down"})
        sys.exit(3)
    devices = [
        {"device": device, "model_bytes": mib << 20, "context_bytes": 0, "compute_bytes": 0} for device, mib in what.items()
    ]
    say({"type": "planned", "devices": devices, "process_bytes": 0, "context_length": 512})


def beat(model):
    grown = []
    while True:
        beat = dict.fromkeys(["steps", "busy_slots", "queued", "kv_tokens"], 0)
        beat |= dict.fromkeys(["kv_store_bytes", "kv_store_disk_bytes", "kv_restored"], 0)
        say({"type": "heartbeat"} | beat)
        path = os.path.join(here, f"grow-{model}")
        if not grown and os.path.exists(path):
            with open(path) as file:
                grown.append(b"x" * (int(file.read()) << 20))
        time.sleep(0.1)


hear()
devices = [{"name": name, "description": "", "total_mb": 1000, "free_mb": 1000} for name in orders["devices"]]
hello = {"type": "hello", "protocol_version": orders["protocol_version"], "version": "fake", "pid": os.getpid()}
say(hello | {"system_info": "", "devices": devices})
while True:
    message = hear()
    if message["type"] == "plan":
        log("plan", message)
        plan()
        break
    if message["type"] == "load":
        log("load", message)
        info = {"context_length": 512, "slots": 2, "vocab_size": 1, "model_bytes": 1, "mapped_bytes": 0, "kv_bytes": 1}
        info |= {"load_ms": 1, "device": orders["devices"][-1].lower(), "generates": True, "embedding_length": None}
        threading.Thread(target=beat, args=[message["model_id"]], daemon=True).start()
        say({"type": "loaded"} | info)
    if message["type"] == "shutdown":
        break
