"""A server that is slow, silent, confused or gone, and one that comes back."""

import json
import socket
import threading

import pytest

import mms_client
from conftest import PATIENCE_S, Fake, busy, wait_until
from mms_client import (
    BadReply,
    Client,
    ClientClosed,
    ConnectionFailed,
    ConnectionLost,
    MmsError,
    NoReply,
    QueueFull,
    Timeout,
)

FINE = {"status": "success"}
SHORT_S = 0.5  # for requests that are meant to run out of time


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ping(client: Client, **settings):
    return client.ping(**settings)


def generate(client: Client, **settings):
    return client.generate("Hello!", **settings)


def test_after_a_timeout_the_next_request_is_answered():
    with Fake(lambda request, n: None if n == 1 else {**FINE, "n": n}) as fake, fake.client(retries=0) as client:
        with pytest.raises(NoReply):
            client.ping(timeout=SHORT_S)
        assert client.ping()["n"] == 2


def test_a_late_reply_is_nobody_elses():
    late = {1: (2 * SHORT_S, {**FINE, "n": 1}), 2: (3 * SHORT_S, {**FINE, "n": 2})}
    with Fake(lambda request, n: late.get(n, {**FINE, "n": n})) as fake, fake.client(retries=0) as client:
        with pytest.raises(NoReply):
            client.ping(timeout=SHORT_S)
        # The answer to the first comes while this waits.
        reply = client.ping()
        assert reply["n"] == 2 and reply["request_id"] == fake.requests[1]["request_id"]


def test_a_timeout_is_pythons_too():
    with Fake(lambda request, n: None) as fake, fake.client() as client:
        with pytest.raises(TimeoutError) as caught:
            client.generate("Hello!", timeout=SHORT_S)
        assert isinstance(caught.value, Timeout) and caught.value.code == "no_reply"


def test_a_generation_is_not_repeated_after_a_timeout():
    with Fake(lambda request, n: None) as fake, fake.client(retries=3) as client:
        with pytest.raises(NoReply):
            client.generate("Hello!", timeout=SHORT_S)
        assert fake.names == ["generate"]


def test_an_operation_that_may_be_repeated_is_repeated_within_its_time():
    with Fake(lambda request, n: None if n < 3 else FINE) as fake, fake.client(retries=3) as client:
        client.ping(timeout=8 * SHORT_S)
        assert fake.names == ["ping"] * 3
        assert len({request["request_id"] for request in fake.requests}) == 3


def test_a_metric_is_noted_once():
    with Fake(lambda request, n: None) as fake, fake.client(retries=3) as client:
        with pytest.raises(NoReply):
            client.log_performance_metric("a", "m", 1.0, timeout=SHORT_S)
        assert fake.names == ["log_performance_metric"]


WRONG = {
    "another request's id": json.dumps({"status": "success", "request_id": "other"}).encode(),
    "no id": b'{"status": "success"}',
    "an id that is no text": b'{"status": "success", "request_id": 1}',
    "no JSON": b"ok",
    "no UTF-8": b"\xff\xfe",
    "nothing": b"",
    "an array": b"[1]",
    "null": b"null",
    "several frames": [b"{}", b"{}"],
    "endless nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_answer_to_the_request(name):
    with Fake(lambda request, n: WRONG[name] if n == 1 else FINE) as fake, fake.client() as client:
        with pytest.raises(BadReply):
            client.generate("Hello!")
        assert client.generate("Hello!")["status"] == "success"
        assert fake.names == ["generate"] * 2
    with Fake(lambda request, n: WRONG[name] if n == 1 else FINE) as fake, fake.client() as client:
        client.ping()
        assert fake.names == ["ping"] * 2


def test_an_error_without_an_id_is_believed():
    refusal = b'{"status": "error", "message": "too big", "error": {"code": "too_large", "message": "too big"}}'
    with Fake(lambda request, n: refusal) as fake, fake.client() as client:
        with pytest.raises(mms_client.TooLarge, match="too big"):
            client.ping()


@pytest.mark.parametrize("ask", [ping, generate])
def test_a_full_queue_is_asked_again(ask):
    with Fake(lambda request, n: busy() if n < 3 else FINE) as fake, fake.client() as client:
        assert ask(client)["status"] == "success"
        assert len(fake.requests) == 3


def test_a_queue_that_stays_full():
    with Fake(lambda request, n: busy()) as fake, fake.client(retries=2) as client:
        with pytest.raises(QueueFull) as caught:
            client.generate("Hello!")
        assert len(fake.requests) == 3 and caught.value.retry_after == 0.001


def test_a_pause_longer_than_the_time_left_is_not_begun():
    with Fake(lambda request, n: busy(retry_after_ms=3_600_000)) as fake, fake.client() as client:
        with pytest.raises(QueueFull) as caught:
            client.ping()
        assert len(fake.requests) == 1 and caught.value.retry_after == 3600


def test_any_code_of_the_server_and_its_figures():
    def refuse(request, n):
        error = {"code": request["prompt"], "message": "no", "free_mb": 3}
        return {"status": "error", "message": "no", "error": error}

    with Fake(refuse) as fake, fake.client(retries=0) as client:
        for code, kind in [
            ("insufficient_memory", mms_client.InsufficientMemory),
            ("quarantined", mms_client.NotReady),
            ("context_exceeded", mms_client.RequestError),
            ("timeout", Timeout),
            ("invented_later", MmsError),
        ]:
            with pytest.raises(kind) as caught:
                client.generate(code)
            assert (caught.value.code, caught.value.message, caught.value.details) == (code, "no", {"free_mb": 3})


def test_the_server_is_told_the_time_it_has():
    with Fake(lambda request, n: FINE) as fake, fake.client(work_timeout=20) as client:
        client.generate("Hello!")
        client.load_model("m", timeout=10)
        client.ping()
        assert 19_000 <= fake.requests[0]["timeout_ms"] <= 19_750
        assert 9_000 <= fake.requests[1]["timeout_ms"] <= 9_750
        assert "timeout_ms" not in fake.requests[2]
        client.call("generate", prompt="x", timeout_ms=5)
        assert fake.requests[3]["timeout_ms"] == 5


@pytest.mark.parametrize("ask", [ping, generate])
def test_nobody_listens(ask):
    with Client(port=free_port(), connect_timeout=SHORT_S) as client:
        with pytest.raises(ConnectionError, match="nobody answers at tcp://127.0.0.1:") as caught:
            ask(client)
        assert isinstance(caught.value, ConnectionFailed)


def test_a_host_that_does_not_exist():
    with Client("nowhere.invalid:1", connect_timeout=SHORT_S) as client:
        with pytest.raises(ConnectionFailed, match="nowhere.invalid"):
            client.ping()


def test_something_else_listens(suite):
    http_port = suite.http.rpartition(":")[2]
    with Client(f"127.0.0.1:{http_port}", connect_timeout=2 * SHORT_S) as client:
        with pytest.raises(ConnectionFailed, match="does not speak ZeroMQ"):
            client.ping()


def test_a_listener_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with Client(port=listener.getsockname()[1], connect_timeout=SHORT_S) as client:
            with pytest.raises(ConnectionFailed, match="does not speak ZeroMQ"):
                client.generate("Hello!")


def test_a_server_that_starts_late_gets_the_request_once():
    port = free_port()
    replies = []
    with Client(port=port, connect_timeout=PATIENCE_S, timeout=PATIENCE_S) as client:
        asking = threading.Thread(target=lambda: replies.append(client.generate("Hello!")))
        asking.start()
        with Fake(lambda request, n: FINE, port) as fake:
            asking.join(PATIENCE_S)
            assert fake.names == ["generate"] and replies[0]["status"] == "success"


def end_midway(ask, **settings):
    """Asks a server that goes away with the request in its hands, and comes back; what came of it, and what each saw."""
    first = Fake(lambda request, n: None)
    found = []

    def work():
        try:
            found.append(ask(client))
        except MmsError as error:
            found.append(error)

    with first.client(**settings) as client:
        asking = threading.Thread(target=work)
        asking.start()
        wait_until(lambda: first.requests, "the request")
        first.stop()
        with Fake(lambda request, n: FINE, first.port) as second:
            asking.join(PATIENCE_S)
            assert not asking.is_alive()
            return found[0], first.names, second.names


def test_a_restart_in_between_is_noticed_at_once():
    # Its time would be over only after an hour.
    found, first, second = end_midway(lambda client: client.generate("Hello!", timeout=3600))
    assert isinstance(found, ConnectionLost) and isinstance(found, ConnectionError)
    assert (first, second) == (["generate"], [])


def test_a_restart_in_between_does_not_show_where_repeating_is_safe():
    found, first, second = end_midway(lambda client: client.get_status(timeout=PATIENCE_S))
    assert found["status"] == "success"
    assert (first, second) == (["status"], ["status"])


def test_a_generation_is_repeated_when_asked_for():
    found, first, second = end_midway(generate, retry_generate=True)
    assert found["status"] == "success"
    assert (first, second) == (["generate"], ["generate"])


def test_a_restart_between_two_requests_does_not_show():
    with Fake(lambda request, n: FINE) as first, first.client() as client:
        client.generate("Hello!")
        first.stop()
        with Fake(lambda request, n: FINE, first.port) as second:
            client.generate("Hello!")
            assert second.names == ["generate"]


def test_what_is_no_json_is_not_sent():
    with Fake(lambda request, n: FINE) as fake, fake.client() as client:
        with pytest.raises(ValueError):
            client.log_performance_metric("a", "m", float("nan"))
        with pytest.raises(TypeError):
            client.cache_response("m", "p", object())
        with pytest.raises(TypeError, match="no such option: max_token "):
            client.generate("Hello!", max_token=5)
        client.ping()
        assert fake.names == ["ping"]


def test_a_closed_client():
    with Fake(lambda request, n: FINE) as fake:
        client = fake.client()
        client.ping()
        client.close()
        client.close()
        with pytest.raises(ClientClosed):
            client.ping()


def test_threads_do_not_wait_for_each_other():
    together = threading.Barrier(9)

    def answer(request, n):
        return (SHORT_S, FINE) if request["action"] == "generate" else FINE

    def work():
        together.wait(PATIENCE_S)
        for _ in range(20):
            client.ping()
        done.append(client.generate("Hello!"))

    done: list = []
    with Fake(answer) as fake, fake.client() as client:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        together.wait(PATIENCE_S)
        for thread in threads:
            thread.join(PATIENCE_S)
        assert len(done) == 8 and len(fake.requests) == 8 * 21


def test_a_slow_request_holds_up_no_other():
    with Fake(lambda request, n: None if request["action"] == "generate" else FINE) as fake, fake.client() as client:
        asking = threading.Thread(target=lambda: pytest.raises(ConnectionLost, client.generate, "Hello!", timeout=3600))
        asking.start()
        wait_until(lambda: fake.requests, "the generation")
        client.ping()
        assert asking.is_alive()
        fake.stop()
        asking.join(PATIENCE_S)
        assert not asking.is_alive()
