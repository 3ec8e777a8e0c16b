"""Every operation against real servers of both profiles, and their errors."""

import threading

import pytest

from conftest import ENDLESS, PATIENCE_S, wait_until
from mms_client import (
    ContextExceeded,
    InvalidArgument,
    MissingArgument,
    MmsError,
    ModelNotFound,
    NoReply,
    Timeout,
    UnknownOperation,
    replies,
)

MODEL = "mms-demo"
BRIEF = {"max_tokens": 8, "temperature": 0}


@pytest.fixture(params=["suite", "legacy"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def sure_keys(kind: type) -> set:
    """The keys that a reply must have: those of the classes that are not `total=False`."""
    return set(kind.__required_keys__)


SERVED = [
    (replies.Ping, lambda client: client.ping()),
    (replies.Health, lambda client: client.health_check()),
    (replies.Status, lambda client: client.get_status()),
    (replies.Models, lambda client: client.list_models()),
    (replies.ModelStatus, lambda client: client.get_model_status(MODEL)),
    (replies.AllModels, lambda client: client.get_all_models()),
    (replies.LoadedModels, lambda client: client.get_loaded_models_status()),
    (replies.Memory, lambda client: client.get_memory_status()),
    (replies.Stats, lambda client: client.get_stats()),
    (replies.Selected, lambda client: client.select_model("chat", 64)),
    (replies.Loaded, lambda client: client.load_model(MODEL, device="cpu")),
    (replies.ModelReady, lambda client: client.request_model(MODEL)),
    (replies.Unloaded, lambda client: client.unload_model(MODEL)),
    (replies.Generated, lambda client: client.generate("Hello!", **BRIEF)),
    (replies.Generated, lambda client: client.generate_text(MODEL, "Hello!", **BRIEF)),
    (replies.Generated, lambda client: client.chat([{"role": "user", "content": "Hello!"}], **BRIEF)),
    (replies.Preloaded, lambda client: client.preload_models([MODEL])),
    (replies.Predicted, lambda client: client.predict_models()),
    (replies.Noted, lambda client: client.record_usage(MODEL)),
    (replies.Cleared, lambda client: client.clear_conversation("never had")),
]

# The rest of the contract: a server that has an operation answers as the contract says, one that has not says just that.
CONTRACT = [
    (replies.MetricLogged, lambda client: client.log_performance_metric("tests", "latency_ms", 1.5, metadata={"k": 1})),
    (replies.Metrics, lambda client: client.get_performance_metrics("tests", limit=5)),
    (replies.EvaluationLogged, lambda client: client.log_model_evaluation(MODEL, "c1", 0.9, accuracy=0.8)),
    (replies.Evaluations, lambda client: client.get_model_evaluation_scores(MODEL, limit=5)),
    (replies._Cached, lambda client: client.get_cached_response(MODEL, "never asked")),
]


@pytest.mark.parametrize("kind, ask", SERVED, ids=lambda value: getattr(value, "__name__", ""))
def test_an_operation(client, kind, ask):
    reply = ask(client)
    assert sure_keys(kind) <= set(reply), sure_keys(kind) - set(reply)


def test_a_conversation(client):
    client.clear_conversation("talk")
    first = client.generate("Hello!", conversation_id="talk", **BRIEF)
    second = client.chat([{"role": "user", "content": "What is this?"}], conversation_id="talk", **BRIEF)
    assert (first["conversation_turns"], second["conversation_turns"]) == (1, 2)
    assert second["using_kv_cache"] and second["usage"]["cached_tokens"] > 0
    with client.stream("Thank you.", conversation_id="talk", **BRIEF) as pieces:
        assert "".join(pieces)
    assert client.generate("Goodbye!", conversation_id="talk", **BRIEF)["conversation_turns"] == 4
    cleared = client.clear_conversation("talk")
    assert cleared["cleared"] and cleared["conversation_id"] == "talk" and cleared["message"]
    assert not client.clear_conversation("talk")["cleared"]


def test_what_was_recorded_is_foreseen(client):
    assert client.record_usage(MODEL)["message"] == "Usage recorded"
    predicted = client.predict_models()
    assert predicted["predicted_models"] == [MODEL] and predicted["scores"] == {MODEL: 1.0}
    preloaded = client.preload_models([MODEL, "nobody"])
    assert preloaded["loaded"] == [MODEL] and "nobody" in preloaded["failed"]["nobody"]


@pytest.mark.parametrize("kind, ask", CONTRACT, ids=lambda value: getattr(value, "__name__", ""))
def test_an_operation_of_the_contract(client, kind, ask):
    try:
        reply = ask(client)
    except UnknownOperation as error:
        assert "Unknown action: " in error.message
    else:
        assert sure_keys(kind) <= set(reply), sure_keys(kind) - set(reply)


def test_an_answer(client):
    reply = client.generate("Hello!", model=MODEL, **BRIEF)
    assert reply["text"] and reply["text"] == reply["response_text"] and reply["model_id"] == MODEL
    assert reply["usage"]["completion_tokens"] == reply["tokens_generated"] <= 8
    again = client.chat([{"role": "user", "content": "Hello!"}], model=MODEL, **BRIEF)
    assert again["text"] == reply["text"]


def test_what_the_types_do_not_name_is_there(client):
    assert "uptime" not in replies.Health.__annotations__
    assert dict(client.health_check())["uptime"] > 0


def test_loading_and_unloading(client):
    assert client.load_model(MODEL)["model_status"] == "loaded"
    assert client.get_model_status(MODEL)["is_loaded"]
    assert MODEL in client.get_loaded_models_status()["loaded_models"]
    assert client.unload_model(MODEL)["model_status"] == "available_not_loaded"
    assert not client.get_model_status(MODEL)["is_loaded"]


@pytest.mark.parametrize(
    "kind, message, ask",
    [
        (ModelNotFound, "nobody", lambda client: client.generate_text("nobody", "Hello!")),
        (ModelNotFound, "nobody", lambda client: client.load_model("nobody")),
        (ModelNotFound, "nobody", lambda client: client.request_model("nobody")),
        (MissingArgument, "prompt", lambda client: client.generate("")),
        (InvalidArgument, "max_tokens must be an integer from 1 to 1048576, got -1", lambda c: c.generate("x", max_tokens=-1)),
        (InvalidArgument, "temperature", lambda client: client.generate("x", temperature=99)),
        (InvalidArgument, "quantization|F64", lambda client: client.load_model(MODEL, quantization_level="F64")),
        (ContextExceeded, "context", lambda client: client.generate("word " * 5000)),
        (UnknownOperation, "Unknown action: nonsense", lambda client: client.call("nonsense")),
    ],
)
def test_an_error_by_its_code(client, kind, message, ask):
    with pytest.raises(kind, match=message) as caught:
        ask(client)
    assert caught.value.code and caught.value.message == str(caught.value)
    assert client.ping()


def test_the_figures_of_an_error(suite):
    with suite.client() as client:
        with pytest.raises(ContextExceeded) as caught:
            client.generate("word " * 5000)
        assert caught.value.details["prompt_tokens"] > caught.value.details["context_length"] > 0


def test_the_server_says_in_time_what_is_not_done(client):
    client.load_model(MODEL)
    with pytest.raises(Timeout) as caught:
        client.generate("Once", **ENDLESS, extra={"timeout_ms": 200})
    assert caught.value.code == "timeout"
    assert client.ping()


def test_what_nobody_waits_for_is_ended(suite):
    before = suite.cancelled("action")
    with suite.client() as client:
        client.load_model(MODEL)
        with pytest.raises(NoReply):
            # The server is told that there is time, so only the connection's end tells it.
            client.generate("Once", timeout=0.3, **ENDLESS, extra={"timeout_ms": 60_000})
        wait_until(lambda: suite.cancelled("action") == before + 1, "the end of the generation")


def test_many_threads(suite):
    errors = []

    def work(client, number):
        try:
            for _ in range(5):
                assert client.ping()["agent"]
                assert client.generate("Hello!", max_tokens=2, seed=number)["tokens_generated"] <= 2
        except (MmsError, AssertionError) as error:
            errors.append(error)

    with suite.client() as client:
        threads = [threading.Thread(target=work, args=(client, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not errors
