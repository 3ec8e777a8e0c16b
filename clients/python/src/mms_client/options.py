"""The settings of a generation, the same for `generate`, `generate_text`, `chat` and `stream`."""

from __future__ import annotations

from typing import Any, Mapping, Sequence, TypedDict, Union

from .wire import Reply


class TextOptions(TypedDict, total=False):
    """What may be left out; the server's defaults in brackets. What is None counts as left out."""

    system_prompt: str
    max_tokens: int
    """At least 1 [256; `generate_text`: 1024]."""
    temperature: float
    """0 to 5; 0 takes the likeliest token always [0.7]."""
    top_p: float
    """[0.95]"""
    top_k: int
    """[40]"""
    min_p: float
    """[0.05]"""
    repeat_penalty: float
    """[1.0]"""
    repeat_last_n: int
    """[64]"""
    presence_penalty: float
    """[0]"""
    frequency_penalty: float
    """[0]"""
    seed: int
    """The same seed, settings and prompt give the same text [at random]."""
    stop: Union[str, Sequence[str]]
    """The answer ends before any of these."""
    logit_bias: Mapping[str, float]
    """Token id to a number from -100 to 100."""
    logprobs: int
    """Log probabilities, and of so many alternatives beside each token."""
    conversation_id: str
    raw: bool
    """The prompt goes to the model as it stands, without its chat template."""
    grammar: str
    """The answer follows this grammar (GBNF)."""
    json_schema: Mapping[str, Any]
    """The answer is JSON of this schema."""
    json: bool
    """The answer is a JSON object."""
    tools: Sequence[Mapping[str, Any]]
    tool_choice: Union[str, Mapping[str, Any]]
    parallel_tool_calls: bool
    keep_alive: Union[float, str]
    """How long the model stays after this request: seconds, or a text such as "5m"; negative: for ever."""
    extra: Mapping[str, Any]
    """Further arguments, sent as they stand: for a server that knows more than this client."""


class Options(TextOptions, total=False):
    """`TextOptions`, and which model."""

    model: str
    """A model's id."""
    model_pref: str
    """A name of the routing policy ["fast"]."""


class Message(TypedDict, total=False):
    """One message of a chat, in OpenAI's shape."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: Union[str, Sequence[Mapping[str, Any]], None]
    tool_calls: Sequence[Mapping[str, Any]]
    tool_call_id: str
    name: str


_NAMES = frozenset(Options.__annotations__)


def arguments(options: Mapping[str, Any], **required: Any) -> Reply:
    """All arguments of one request. Raises TypeError for an option that there is none of, as Python does for keyword arguments."""
    unknown = sorted(set(options) - _NAMES)
    if unknown:
        raise TypeError(f"no such option: {', '.join(unknown)} (arguments that only the server knows go into extra)")
    given = {**options, **required}
    extra = given.pop("extra", None) or {}
    return {**extra, **{key: value for key, value in given.items() if value is not None}}
