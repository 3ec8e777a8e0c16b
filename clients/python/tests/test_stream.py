"""Answers token by token, from a real server and from one that breaks off, refuses or stalls."""

import asyncio
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import mms_client
from conftest import ENDLESS, PATIENCE_S, wait_until
from mms_client import AsyncClient, Client, ConnectionFailed, ConnectionLost, InvalidArgument, NoReply, QueueFull
from mms_client.sse import Answer, Body, Events

HELLO = [{"role": "user", "content": "Hello!"}]
SHORT_S = 0.5


def collect(settings: dict, ask):
    """What `ask(client)` streams, read by both clients: pieces and the stream, which must agree."""

    async def asynchronously():
        async with AsyncClient(**settings) as client:
            async with await ask(client) as stream:
                return [piece async for piece in stream], stream

    with Client(**settings) as client, ask(client) as stream:
        pieces = list(stream)
    again, other = asyncio.run(asyncio.wait_for(asynchronously(), PATIENCE_S))
    assert again == pieces and vars_of(other) == vars_of(stream)
    return pieces, stream


def vars_of(answer: Answer) -> dict:
    names = ("text", "model_id", "finish_reason", "tool_calls", "complete")
    return {name: getattr(answer, name) for name in names}


def fails(settings: dict, kind: type, ask=lambda client: client.stream("Hello!")):
    """Both clients raise that error."""

    async def asynchronously():
        async with AsyncClient(**settings) as client:
            async with await ask(client) as stream:
                async for _ in stream:
                    pass

    with pytest.raises(kind) as caught:
        with Client(**settings) as client, ask(client) as stream:
            list(stream)
    with pytest.raises(kind):
        asyncio.run(asyncio.wait_for(asynchronously(), PATIENCE_S))
    return caught.value


@pytest.fixture
def real(suite):
    return {"endpoint": suite.main, "http": suite.http}


def test_pieces_make_the_answer(real, client):
    whole = client.generate("Hello!", temperature=0, max_tokens=32)
    pieces, stream = collect(real, lambda client: client.stream("Hello!", temperature=0, max_tokens=32))
    assert len(pieces) > 1 and "".join(pieces) == stream.text == whole["text"]
    assert stream.finish_reason == whole["finish_reason"] and stream.model_id == whole["model_id"]
    assert stream.usage["completion_tokens"] == whole["tokens_generated"] and stream.timings["total_ms"] > 0


def test_chat_streams_too(real, client):
    whole = client.chat(HELLO, temperature=0, max_tokens=16)
    pieces, _ = collect(real, lambda client: client.chat(HELLO, stream=True, temperature=0, max_tokens=16))
    assert "".join(pieces) == whole["text"]


def test_a_raw_prompt_and_log_probabilities(real, client):
    whole = client.generate("Once", raw=True, temperature=0, max_tokens=4)
    pieces, _ = collect(real, lambda client: client.stream("Once", raw=True, temperature=0, max_tokens=4))
    assert "".join(pieces) == whole["text"]
    _, stream = collect(real, lambda client: client.stream("Hello!", logprobs=2, temperature=0, max_tokens=4))
    assert len(stream.logprobs) >= 1 and len(stream.logprobs[0]["top_logprobs"]) == 2


def test_a_mistake_is_told_before_the_first_piece(real):
    error = fails(real, InvalidArgument, lambda client: client.stream("Hello!", temperature=99))
    assert error.details["argument"] == "temperature"
    fails(real, mms_client.ModelNotFound, lambda client: client.stream("Hello!", model="nobody"))


def test_ending_early_ends_the_generation(suite, client):
    before = suite.cancelled("openai")
    with client.stream("Once", **ENDLESS) as stream:
        assert next(iter(stream))
    wait_until(lambda: suite.cancelled("openai") == before + 1, "the end of the generation")


def test_cancelling_the_reader_ends_the_generation(suite):
    async def read(begun):
        async with AsyncClient(suite.main, http=suite.http) as client:
            async with await client.stream("Once", **ENDLESS) as stream:
                async for _ in stream:
                    begun.set()

    async def work():
        begun = asyncio.Event()
        reading = asyncio.create_task(read(begun))
        await begun.wait()
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()

    before = suite.cancelled("openai")
    asyncio.run(asyncio.wait_for(work(), PATIENCE_S))
    wait_until(lambda: suite.cancelled("openai") == before + 1, "the end of the generation")


def test_what_does_not_go_together():
    with pytest.raises(TypeError, match="raw"):
        Body(None, HELLO, {"raw": True})
    with pytest.raises(TypeError, match="system_prompt"):
        Body(None, HELLO, {"system_prompt": "x"})
    with pytest.raises(TypeError, match="no such option"):
        Body("x", None, {"n": 2})
    with pytest.raises(TypeError, match="a prompt or messages"):
        Body(None, None, {})


def test_events_however_they_are_cut():
    data = b': waiting\n\ndata: {"a": 1}\n\ndata: x\r\ndata: y\r\n\r\nevent: e\n\ndata:[DONE]\n\n'
    for size in (1, 2, 3, 7, len(data)):
        events = Events()
        found = [event for at in range(0, len(data), size) for event in events.feed(data[at : at + size])]
        assert found == ['{"a": 1}', "x\ny", "[DONE]"], size


# A server that does as it is told


class Told(BaseHTTPRequestHandler):
    """Answers with what `server.script(n)` gives: a status, headers, and pieces of the body; a number among them is a pause in
    seconds, `...` keeps the connection open until the client goes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append((self.path, body))
        before, status, headers, pieces = self.server.script(len(self.server.bodies))
        self.close_connection = True
        self.wfile.write(before)
        if status is None:
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in pieces:
            if piece is ...:
                self.connection.settimeout(PATIENCE_S)
                self.rfile.read(1)
                return
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, *_):
        pass


@pytest.fixture
def told():
    """Starts servers: `told(script)` gives settings for a client of one."""
    servers = []

    def start(script):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
        server.daemon_threads = True
        server.script, server.bodies = script, []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        settings = {"http": f"http://127.0.0.1:{server.server_port}/base", "work_timeout": PATIENCE_S}
        return settings, server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def event(text: str) -> bytes:
    chunk = {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


OK = (b"", 200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
DONE = b"data: [DONE]\n\n"


def refused(code: str, message: str = "no", **headers: str):
    body = json.dumps({"error": {"code": code, "message": message, "type": "t", "param": None, "details": {"free_mb": 3}}})
    return b"", 429, {"Content-Length": str(len(body)), **headers}, [body.encode()]


def test_pieces_in_any_cut(told):
    whole = event("a") + event("é") + b": waiting\n\n" + event("b") + DONE
    cuts = [chunked(whole[at : at + 5]) for at in range(0, len(whole), 5)]
    settings, server = told(lambda n: (*OK, [*cuts, b"0\r\n\r\n"]))
    pieces, _ = collect(settings, lambda client: client.stream("Hello!", system_prompt="Be brief.", seed=1))
    assert pieces == ["a", "é", "b"]
    path, body = server.bodies[0]
    assert path == "/base/v1/chat/completions"
    assert body.pop("timeout_ms") > 0
    assert body == {
        "model": "fast", "max_tokens": 256, "seed": 1, "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}],
    }  # fmt: skip


def test_a_response_after_100_continue_and_without_chunks(told):
    settings, _ = told(lambda n: (b"HTTP/1.1 100 Continue\r\n\r\n", 200, {"Connection": "close"}, [event("a"), DONE]))
    assert collect(settings, lambda client: client.stream("Hello!"))[0] == ["a"]


def test_a_full_queue_is_asked_again(told):
    settings, server = told(lambda n: (*OK, [chunked(event("a") + DONE)]) if n % 2 == 0 else refused("queue_full"))
    assert collect(settings, lambda client: client.stream("Hello!"))[0] == ["a"]
    assert len(server.bodies) == 4
    settings, server = told(lambda n: refused("queue_full", **{"Retry-After": "7200"}))
    error = fails(settings, QueueFull)
    assert error.retry_after == 7200 and error.details["free_mb"] == 3 and len(server.bodies) == 2


def test_a_stream_that_breaks_off(told):
    fails(told(lambda n: (*OK, [chunked(event("a"))]))[0], ConnectionLost)
    fails(told(lambda n: (*OK, [chunked(event("a"))[:-9]]))[0], ConnectionLost)
    fails(told(lambda n: (*OK, [chunked(event("a")), b"0\r\n\r\n"]))[0], ConnectionLost)


def test_a_stream_that_ends_with_an_error(told):
    failure = b'data: {"error": {"code": "worker_died", "message": "gone"}}\n\n'
    error = fails(told(lambda n: (*OK, [chunked(event("a") + failure)]))[0], mms_client.WorkerDied)
    assert error.message == "gone"


def test_a_stream_that_stalls(told):
    fails({**told(lambda n: (*OK, [chunked(event("a")), ...]))[0], "work_timeout": SHORT_S}, NoReply)
    fails({**told(lambda n: (*OK, [...]))[0], "work_timeout": SHORT_S}, NoReply)


@pytest.mark.parametrize("before", [b"", b"220 mail ready\r\n", b"HTTP/1.1 what\r\n\r\n"])
def test_what_is_no_http(told, before):
    fails(told(lambda n: (before, None, {}, []))[0], mms_client.MmsError)


def test_an_error_that_is_not_the_suites(told):
    page = b"<html>Bad gateway</html>"
    settings, _ = told(lambda n: (b"", 502, {"Content-Length": str(len(page))}, [page]))
    assert "502" in fails(settings, mms_client.BadReply).message


def test_nobody_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fails({"http": f"http://127.0.0.1:{port}", "connect_timeout": SHORT_S}, ConnectionFailed)
