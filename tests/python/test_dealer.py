"""Peers that pipeline: every request has exactly one reply, whatever the client does with them."""

import json

import zmq

from conftest import wait_until

MANY = 10_000


def request(number: int) -> bytes:
    return json.dumps({"action": "ping", "request_id": number}).encode()


def replies(socket: zmq.Socket, count: int) -> list[int]:
    return [json.loads(socket.recv_multipart()[-1])["request_id"] for _ in range(count)]


def test_ten_thousand_requests_before_the_first_reply_is_read(suite):
    with suite.socket(zmq.DEALER, sndhwm=0, rcvhwm=0) as socket:
        for number in range(MANY):
            socket.send_multipart([b"", request(number)])
        assert sorted(replies(socket, MANY)) == list(range(MANY))
        assert socket.poll(200) == 0, "more replies than requests"
    suite.answers()


def test_a_dealer_that_never_reads_harms_nobody(suite):
    with suite.socket(zmq.DEALER, rcvhwm=1) as socket:
        sent = 0
        for number in range(MANY):
            try:
                socket.send_multipart([b"", request(number)], zmq.NOBLOCK)
                sent += 1
            except zmq.Again:
                break
        assert sent > 0
        suite.answers()
    suite.answers()


def test_an_envelope_comes_back_as_it_was(suite):
    with suite.socket(zmq.DEALER) as socket:
        socket.send_multipart([b"route", b"", request(1)])
        assert socket.recv_multipart()[:-1] == [b"route", b""]
        suite.answers()


def test_equal_identities_do_not_mix(suite):
    sockets = [suite.socket(identity=b"same") for _ in range(3)]
    for number, socket in enumerate(sockets):
        socket.send(request(number))
    for number, socket in enumerate(sockets):
        with socket:
            assert socket.recv_json()["request_id"] == number


def test_relaxed_and_correlated_requests(suite):
    with suite.socket(req_relaxed=1, req_correlate=1) as socket:
        for number in range(20):
            socket.send(request(number))
        assert socket.recv_json()["request_id"] == 19


def test_slow_generations_do_not_delay_ping_and_health_check(suite):
    """Order of completion, not time: long generations are sent first, and pings sent after them are answered before."""
    # So hot that the end of the answer is one token among many: each runs to its max_tokens.
    hot = {"temperature": 5, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 1}
    long = {"action": "generate", "prompt": "Tell me about models.", "max_tokens": 400, **hot}
    suite.ask({"action": "load_model", "model_id": "mms-demo"})
    with suite.socket(zmq.DEALER) as slow:
        for number in range(24):
            slow.send_multipart([b"", json.dumps({**long, "request_id": number}).encode()])
        wait_until(lambda: active(suite) > 0 or slow.poll(0), "a running generation")
        for method in ("ping", "health_check") * 10:
            assert suite.ask({"method": method})
        answered_meanwhile = 0
        while slow.poll(0):
            slow.recv_multipart()
            answered_meanwhile += 1
        assert answered_meanwhile < 24, "all generations were over before twenty pings: they were waited for"
        for _ in range(24 - answered_meanwhile):
            assert json.loads(slow.recv_multipart()[-1])["status"] == "success"


def active(server) -> int:
    return sum(model["active_requests"] for model in server.ask({"action": "list_models"})["models"])
