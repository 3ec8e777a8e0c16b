"""The `openai` package, as anybody uses it."""

import openai
import pytest

from conftest import wait_until

HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def client(suite) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{suite.http}/v1", api_key="none", max_retries=0, timeout=60)


def test_models(client):
    models = {model.id: model for model in client.models.list()}
    assert models["mms-demo"].object == "model"


def test_chat(client):
    reply = client.chat.completions.create(model="mms-demo", messages=HELLO, temperature=0, max_tokens=32)
    assert reply.object == "chat.completion" and reply.model == "mms-demo"
    assert reply.choices[0].message.role == "assistant" and reply.choices[0].message.content
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert 0 < reply.usage.completion_tokens <= 32


def test_chat_streaming_is_the_same_text_in_pieces(client):
    settings = {"model": "mms-demo", "messages": HELLO, "temperature": 0, "max_tokens": 32}
    whole = client.chat.completions.create(**settings).choices[0].message.content
    chunks = list(client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == whole
    assert len(pieces) > 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1])
    assert chunks[-1].usage.completion_tokens > 0


def test_conversation_with_a_system_message(client):
    messages = [
        {"role": "system", "content": "You are the demo model of the Model Manager Suite."},
        *HELLO,
        {"role": "assistant", "content": "Hello! How can I help you?"},
        {"role": "user", "content": "What is 2 plus 2?"},
    ]
    reply = client.chat.completions.create(model="mms-demo", messages=messages, temperature=0, max_tokens=32)
    assert reply.choices[0].message.content


def test_completions(client):
    reply = client.completions.create(model="mms-demo", prompt="The suite", temperature=0, max_tokens=8)
    assert reply.object == "text_completion" and reply.choices[0].text
    pieces = client.completions.create(model="mms-demo", prompt="The suite", temperature=0, max_tokens=8, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == reply.choices[0].text


def test_stop_string_and_seed(client):
    settings = {"model": "mms-demo", "messages": HELLO, "max_tokens": 24, "temperature": 1.0, "seed": 11}
    first = client.chat.completions.create(**settings).choices[0].message.content
    assert client.chat.completions.create(**settings).choices[0].message.content == first
    word = first.split()[-1]
    stopped = client.chat.completions.create(**settings, stop=[word]).choices[0].message.content
    assert word not in stopped


def test_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such", messages=HELLO)
    assert "no-such" in caught.value.message
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": -1}, {"temperature": 99}, {"messages": []}, {"messages": [{"role": "ghost", "content": "x"}]}]
)
def test_wrong_arguments_are_bad_requests(client, wrong):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "mms-demo", "messages": HELLO, **wrong})
    assert caught.value.message


def test_too_long_prompt_names_both_lengths(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="mms-demo", messages=[{"role": "user", "content": "hello " * 20_000}])
    assert caught.value.body["code"] in ("context_length_exceeded", "context_exceeded"), caught.value.body
    numbers = [word for word in caught.value.message.replace(",", " ").split() if word.strip(".").isdigit()]
    assert len(numbers) >= 2, caught.value.message


def test_a_reader_that_leaves_mid_stream_ends_the_work(client, suite):
    stream = client.chat.completions.create(
        model="mms-demo", messages=[{"role": "user", "content": "Tell me about models."}], max_tokens=400, temperature=1.5, stream=True
    )
    next(iter(stream))
    stream.close()

    def idle() -> bool:
        models = suite.ask({"action": "list_models"})["models"]
        return all(model["active_requests"] == 0 for model in models)

    wait_until(idle, "the cancelled generation to leave the model")
