"""What the two scripts of the blocked migration tried: they are why this suite exists, so they must simply work."""

import time

import requests
import zmq


def test_smoke_script(suite):
    """`mms_smoke_test.py`: health_check, generate, HTTP health, on one REQ socket with a receive timeout of five seconds."""
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.RCVTIMEO, 5000)
    try:
        socket.connect(suite.main)

        socket.send_json({"method": "health_check", "params": {}})
        health = socket.recv_json()
        assert health["status"] == "healthy", health

        socket.send_json({"method": "generate", "params": {"prompt": "Hello, this is a test", "max_tokens": 10}})
        generated = socket.recv_json()
        assert generated["status"] == "success" and generated["text"], generated

        reply = requests.get(f"{suite.http}/health", timeout=3)
        assert reply.status_code == 200, reply.text
        assert reply.json()["ready"] is True
    finally:
        socket.close()
        context.term()


def test_simple_zmq_script(suite):
    """`simple_zmq_test.py`: connect, wait, one ping with receive and send timeouts."""
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.RCVTIMEO, 10000)
    socket.setsockopt(zmq.SNDTIMEO, 5000)
    try:
        socket.connect(suite.main)
        time.sleep(2)  # as the script did: an idle connection must still be answered
        socket.send_json({"method": "ping"})
        assert socket.recv_json()["status"] == "success"
    finally:
        socket.close()
        context.term()


def test_health_port_answers_zmq_and_http(suite):
    """The old compose file asked the ZMQ health port with curl; ours answers both."""
    with suite.socket(endpoint=suite.health) as socket:
        for payload in (b"", b"not json", b'{"action": "health"}', b"\xff\xfe"):
            socket.send(payload)
            assert socket.recv_json()["status"] == "ok"
    http = suite.health.replace("tcp://", "http://")
    reply = requests.get(f"{http}/health", timeout=60)
    assert reply.status_code == 200
    health = reply.json()
    for key in (
        "status", "agent", "ready", "initialized", "message", "uptime", "timestamp", "commands_processed", "loaded_models",
        "vram_used_mb", "vram_budget_mb", "device", "metrics", "health_checks", "health_details",
    ):  # fmt: skip
        assert key in health, key
    assert health["ready"] is True and health["health_checks"]


def test_http_probes_and_metrics(suite):
    for path in ("/health", "/healthz", "/readyz", "/livez"):
        assert requests.get(f"{suite.http}{path}", timeout=60).status_code == 200, path
    metrics = requests.get(f"{suite.http}/metrics", timeout=60)
    assert metrics.status_code == 200
    samples = [line for line in metrics.text.splitlines() if line and not line.startswith("#")]
    assert samples and all(line.startswith("mms_") for line in samples), samples[:3]
