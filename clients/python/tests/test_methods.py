"""Every method: what it sends, and that both clients send the same with the same arguments."""

import asyncio
import inspect

import pytest

from conftest import Fake
from mms_client import AsyncClient, Client
from mms_client.operations import OPERATIONS

METRIC = {"agent_name": "a", "metric_name": "latency_ms", "value": 1.5}
SCORES = {"trust_score": 0.9, "accuracy": 0.8, "f1_score": 0.7, "avg_latency_ms": 12.0}
CACHE = {"model": "m", "prompt": "p", "system_prompt": "s"}
MESSAGES = [{"role": "user", "content": "Hello!"}]
SAMPLING = {"max_tokens": 5, "temperature": 0, "stop": ["x"], "seed": 7, "conversation_id": "c", "keep_alive": "5m"}

# method, arguments by position, by name, what is sent besides the operation, which is the method's name unless it is given
CALLS = [
    ("ping", [], {}, {}),
    ("health_check", [], {}, {}),
    ("get_status", [], {}, {"action": "status"}),
    ("list_models", [], {}, {}),
    ("get_model_status", ["m"], {}, {"model_id": "m"}),
    ("get_all_models", [], {}, {}),
    ("get_loaded_models_status", [], {}, {}),
    ("get_memory_status", [], {}, {}),
    ("get_stats", [], {}, {}),
    ("verify_services", [], {}, {}),
    ("load_model", ["m"], {}, {"model_id": "m"}),
    ("load_model", ["m"], {"device": "cpu", "quantization_level": "Q8_0", "keep_alive": -1},
     {"model_id": "m", "device": "cpu", "quantization_level": "Q8_0", "keep_alive": -1}),
    ("unload_model", ["m"], {}, {"model_id": "m"}),
    ("preload_models", [("m", "n")], {}, {"model_ids": ["m", "n"]}),
    ("request_model", ["m"], {}, {"model_id": "m", "context": {}, "action": None}),
    ("request_model", ["m"], {"quantization_level": "Q8_0"},
     {"model_id": "m", "context": {"quantization_level": "Q8_0"}, "action": None}),
    ("generate", ["Hello!"], {"model_pref": "quality", **SAMPLING}, {"prompt": "Hello!", "model_pref": "quality", **SAMPLING}),
    ("generate", ["Hello!"], {"temperature": None, "extra": {"later": 1}}, {"prompt": "Hello!", "later": 1}),
    ("generate_text", ["m", "Hello!"], SAMPLING, {"model_id": "m", "prompt": "Hello!", **SAMPLING}),
    ("chat", [MESSAGES], {"model": "m"}, {"action": "generate", "messages": MESSAGES, "model": "m"}),
    ("embed", ["text"], {"model": "m", "dimensions": 3}, {"input": "text", "model": "m", "dimensions": 3}),
    ("clear_conversation", ["c"], {}, {"conversation_id": "c"}),
    ("select_model", ["chat", 4096], {}, {"task_type": "chat", "context_size": 4096}),
    ("select_model", ["chat"], {}, {"task_type": "chat"}),
    ("predict_models", [], {}, {}),
    ("record_usage", ["m"], {}, {"model_id": "m"}),
    ("log_performance_metric", list(METRIC.values()), {"metadata": {"k": 1}}, {**METRIC, "metadata": {"k": 1}}),
    ("get_performance_metrics", ["a", "latency_ms"], {"start_time": 1.0, "end_time": "2026-01-01T00:00:00", "limit": 5},
     {"agent_name": "a", "metric_name": "latency_ms", "start_time": 1.0, "end_time": "2026-01-01T00:00:00", "limit": 5}),
    ("log_model_evaluation", ["m", "c1", 0.9], {"accuracy": 0.8, "f1_score": 0.7, "avg_latency_ms": 12.0, "comparison_data": {}},
     {"model_name": "m", "cycle_id": "c1", "comparison_data": {}, **SCORES}),
    ("get_model_evaluation_scores", ["m", "c1"], {"limit": 5}, {"model_name": "m", "cycle_id": "c1", "limit": 5}),
    ("get_cached_response", ["m", "p"], {"system_prompt": "s"}, CACHE),
    ("cache_response", ["m", "p", "answer"], {"system_prompt": "s"}, {**CACHE, "response": "answer"}),
    ("call", ["later"], {"k": 1}, {"action": "later", "k": 1}),
]  # fmt: skip
IDS = [f"{name}-{number}" for number, (name, *_) in enumerate(CALLS)]


def public(kind: type) -> dict:
    return {name: member for name, member in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


@pytest.fixture(scope="module")
def fake():
    with Fake(lambda request, n: {"status": "success", "later_key": n}) as fake:
        yield fake


@pytest.mark.parametrize("name, positional, named, sent", CALLS, ids=IDS)
def test_what_a_method_sends(fake, name, positional, named, sent):
    async def asynchronously():
        async with AsyncClient(port=fake.port) as client:
            return await getattr(client, name)(*positional, **named)

    expected = {"action": name, **sent}
    for ask in (lambda: getattr(fake.client(), name)(*positional, **named), lambda: asyncio.run(asynchronously())):
        reply = ask()
        request = dict(fake.requests[-1])
        assert reply["request_id"] == request.pop("request_id")
        assert reply["later_key"] == len(fake.requests), "what the types do not name is there as well"
        request.pop("timeout_ms", None)
        assert request == {key: value for key, value in expected.items() if key != "action" or value is not None}


def test_both_clients_have_the_same_methods():
    sync, asynchronous = public(Client), public(AsyncClient)
    assert set(sync) == set(asynchronous)
    for name, method in sync.items():
        there = inspect.signature(asynchronous[name])
        here = inspect.signature(method)
        assert list(here.parameters.values()) == list(there.parameters.values()), name
        assert str(there.return_annotation).replace("AsyncTokenStream", "TokenStream") == str(here.return_annotation), name
        if name != "close":
            assert method.__doc__ == asynchronous[name].__doc__, name


def test_every_operation_has_a_method_and_a_case():
    methods = {name for name, *_ in CALLS}
    assert methods == set(public(Client)) - {"close", "forward", "stream"}
    sent = {sent.get("action", name) for name, _, _, sent in CALLS}
    assert set(OPERATIONS) <= sent


def test_forward_sends_what_it_is_given(fake):
    reply = fake.client().forward({"command": "PING", "request_id": 7})
    assert fake.requests[-1] == {"command": "PING", "request_id": 7}
    assert (reply["request_id"], reply["status"]) == (7, "success")
