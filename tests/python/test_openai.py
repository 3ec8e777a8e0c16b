"""The `openai` package, as anybody uses it."""

import json

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


def test_several_choices_whole_and_streamed(client):
    settings = {"model": "mms-demo", "messages": HELLO, "temperature": 0, "max_tokens": 16, "n": 2}
    reply = client.chat.completions.create(**settings)
    texts = [choice.message.content for choice in reply.choices]
    assert [choice.index for choice in reply.choices] == [0, 1] and texts[0] == texts[1]
    single = client.chat.completions.create(**{**settings, "n": 1}).usage
    assert reply.usage.prompt_tokens == single.prompt_tokens
    assert reply.usage.completion_tokens == 2 * single.completion_tokens
    streamed = ["", ""]
    for chunk in client.chat.completions.create(**settings, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_a_list_of_stop_strings(client):
    settings = {"model": "mms-demo", "messages": HELLO, "temperature": 0, "max_tokens": 24}
    words = client.chat.completions.create(**settings).choices[0].message.content.split()
    stopped = client.chat.completions.create(**settings, stop=["never said", words[-1], words[-2]]).choices[0]
    assert words[-2] not in stopped.message.content and stopped.finish_reason == "stop"


def test_max_completion_tokens(client):
    reply = client.chat.completions.create(model="mms-demo", messages=HELLO, temperature=0, max_completion_tokens=3)
    assert reply.usage.completion_tokens == 3 and reply.choices[0].finish_reason == "length"


def test_logprobs(client):
    settings = {"model": "mms-demo", "messages": HELLO, "temperature": 0, "max_tokens": 6, "logprobs": True, "top_logprobs": 2}
    choice = client.chat.completions.create(**settings).choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    assert all(token.top_logprobs[0].token == token.token for token in tokens)
    chunks = client.chat.completions.create(**settings, stream=True)
    streamed = [token for chunk in chunks if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in tokens]


def test_completions_of_several_prompts(client):
    settings = {"model": "mms-demo", "prompt": ["The suite", "One model"], "temperature": 0, "max_tokens": 4, "n": 2}
    reply = client.completions.create(**settings, echo=True, best_of=2)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    starts = [choice.text[:9] for choice in reply.choices]
    assert starts == ["The suite", "The suite", "One model", "One model"]
    reply = client.completions.create(**settings, logprobs=2, stop=["zzz"], seed=3)
    logprobs = reply.choices[0].logprobs
    assert "".join(logprobs.tokens) == reply.choices[0].text
    assert len(logprobs.token_logprobs) == len(logprobs.text_offset) == len(logprobs.top_logprobs) == len(logprobs.tokens)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"n": 200}, "n"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"functions": [{"name": "f", "parameters": {}}]}, "functions"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"properties": {"x": {"type": "wish"}}}}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}], "response_format": {"type": "json_object"}}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": {"type": "function", "function": {"name": "b"}}}, "tool_choice"),
        ({"logit_bias": {"4000000000": 1}}, "logit_bias"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_cannot_be_done_is_named(client, wrong, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "mms-demo", "messages": HELLO, **wrong})
    assert caught.value.param == param and caught.value.type == "invalid_request_error"


def test_time_that_is_up_before_the_model_began_says_when_to_come_back(client, suite):
    suite.ask({"action": "unload_model", "model": "mms-demo"})
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="mms-demo", messages=HELLO, extra_body={"timeout_ms": 1})
    assert caught.value.status_code == 503 and caught.value.code == "timeout"
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert caught.value.body["details"]["phase"] in ("queued", "measuring", "loading")


def test_one_model_by_its_id(client):
    assert client.models.retrieve("mms-demo").id == "mms-demo"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("some/folder/no-such")


LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks somewhere.",
        "parameters": {
            "type": "object",
            "properties": {"at": {"enum": ["sky", "sea"]}, "times": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["at", "times"],
        },
        "strict": True,
    },
}
STOP = {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}}
TOOLS = {"model": "mms-demo", "messages": HELLO, "tools": [LOOK, STOP], "max_tokens": 400}


def check_call(call):
    assert call.type == "function" and call.id
    arguments = json.loads(call.function.arguments)
    if call.function.name == "look":
        assert arguments["at"] in ("sky", "sea") and 1 <= arguments["times"] <= 9
    else:
        assert call.function.name == "stop" and arguments == {}


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_tool_that_must_be_called(client, temperature):
    reply = client.chat.completions.create(**TOOLS, temperature=temperature, tool_choice="required", parallel_tool_calls=False)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert len(choice.message.tool_calls) == 1
    check_call(choice.message.tool_calls[0])
    assert reply.usage.completion_tokens > 5


def test_a_tool_by_name_in_several_choices(client):
    named = {"type": "function", "function": {"name": "look"}}
    reply = client.chat.completions.create(**TOOLS, tool_choice=named, n=3, temperature=1.5, logprobs=True)
    calls = [call for choice in reply.choices for call in choice.message.tool_calls]
    assert [call.function.name for call in calls] == ["look"] * 3
    assert len({call.id for call in calls}) == 3
    assert not any(choice.logprobs.content for choice in reply.choices)
    for call in calls:
        check_call(call)


def test_several_calls_in_one_answer(client):
    answers = [client.chat.completions.create(**TOOLS, tool_choice="required", temperature=1.5, seed=seed) for seed in range(4)]
    calls = [answer.choices[0].message.tool_calls for answer in answers]
    assert all(calls) and max(map(len, calls)) <= 32
    for call in (call for several in calls for call in several):
        check_call(call)


def test_a_model_that_may_call_may_also_answer(client):
    reply = client.chat.completions.create(**{**TOOLS, "max_tokens": 24}, temperature=0)
    choice = reply.choices[0]
    assert choice.message.tool_calls is None and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    none = client.chat.completions.create(**{**TOOLS, "max_tokens": 24}, temperature=0, tool_choice="none").choices[0]
    without = client.chat.completions.create(model="mms-demo", messages=HELLO, max_tokens=24, temperature=0).choices[0]
    assert none.message.content == without.message.content


def test_streamed_calls_put_together_as_clients_do(client):
    settings = {**TOOLS, "tool_choice": "required", "temperature": 1.5, "seed": 3}
    whole = client.chat.completions.create(**settings).choices[0].message
    chunks = list(client.chat.completions.create(**settings, stream=True))
    calls = {}
    for delta in (chunk.choices[0].delta for chunk in chunks):
        assert not delta.content
        for part in delta.tool_calls or []:
            call = calls.setdefault(part.index, {"id": part.id, "name": "", "arguments": ""})
            call["name"] += part.function.name or ""
            call["arguments"] += part.function.arguments or ""
    assert sorted(calls) == list(range(len(whole.tool_calls)))
    assert [(call["name"], call["arguments"]) for call in calls.values()] == [
        (call.function.name, call.function.arguments) for call in whole.tool_calls
    ]
    assert len({call["id"] for call in calls.values()}) == len(calls)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(**settings) as stream:
        final = stream.get_final_completion().choices[0]
    assert [call.function.arguments for call in final.message.tool_calls] == [call.function.arguments for call in whole.tool_calls]


def test_the_result_of_a_tool_is_answered(client):
    named = {"type": "function", "function": {"name": "look"}}
    first = client.chat.completions.create(**TOOLS, tool_choice=named, temperature=0)
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "There is a boat."}
    talk = [*HELLO, message.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(**{**TOOLS, "messages": talk, "max_tokens": 24}, temperature=0)
    assert second.choices[0].message.content
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    # Also after the tools are offered no longer.
    third = client.chat.completions.create(model="mms-demo", messages=talk, max_tokens=24, temperature=0)
    assert third.choices[0].message.content


def test_a_call_that_is_cut_off_is_not_passed_off_as_one(client):
    named = {"type": "function", "function": {"name": "look"}}
    # Enough for the tag however it is cut into tokens, and too little for the arguments.
    choice = client.chat.completions.create(**{**TOOLS, "max_tokens": 16}, tool_choice=named).choices[0]
    assert choice.finish_reason == "length" and choice.message.tool_calls is None
    assert choice.message.content.strip().startswith("<tool_call>")


def test_embeddings_as_numbers_and_as_the_package_asks_for_them(client):
    texts = ["Hello!", "Good morning", "Hello!"]
    # By default the package asks for base64, and decodes it.
    reply = client.embeddings.create(model="mms-demo", input=texts)
    assert reply.object == "list" and reply.model == "mms-demo" and [item.index for item in reply.data] == [0, 1, 2]
    vectors = [item.embedding for item in reply.data]
    numbers = client.embeddings.create(model="mms-demo", input=texts, encoding_format="float")
    for vector, item in zip(vectors, numbers.data, strict=True):
        assert len(vector) == 256 and sum(x * x for x in vector) == pytest.approx(1, abs=1e-4)
        assert vector == pytest.approx(item.embedding, abs=1e-3)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-3) and vectors[0] != pytest.approx(vectors[1], abs=1e-3)
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == numbers.usage.prompt_tokens > 0
    coded = client.embeddings.create(model="mms-demo", input=texts[0], encoding_format="base64").data[0].embedding
    assert len(coded) == 1368  # 256 numbers of 4 bytes, 3 bytes in 4 characters
    short = client.embeddings.create(model="mms-demo", input=texts[0], dimensions=16).data[0].embedding
    assert len(short) == 16 and sum(x * x for x in short) == pytest.approx(1, abs=1e-4)
    assert client.embeddings.create(model="mms-demo", input=[[5, 6], [7]]).usage.prompt_tokens == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input": ""}, "non-empty"),
        ({"input": ["a", ""]}, "non-empty"),
        ({"input": "a", "dimensions": 257}, "its embeddings have 256"),
        ({"input": [1 << 30]}, "the vocabulary ends before"),
        ({"input": "many words " * 3000}, "tokens"),
    ],
)
def test_embeddings_that_cannot_be(client, wrong, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.embeddings.create(model="mms-demo", **wrong)
