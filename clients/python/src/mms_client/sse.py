"""Streamed answers without I/O: the request's body, the events of the response, and what they add up to."""

from __future__ import annotations

import json
from typing import Any, Mapping, Optional, Sequence

from .errors import BadReply, MmsError, refusal
from .options import arguments
from .wire import Reply

DEFAULT_MAX_TOKENS = 256  # as `generate` has it


class Body:
    """Where to post, and what."""

    def __init__(
        self, prompt: Optional[str], messages: Optional[Sequence[Mapping[str, Any]]], options: Mapping[str, Any]
    ) -> None:
        if (prompt is None) == (messages is None):
            raise TypeError("give a prompt or messages")
        fields = arguments(options)
        fields.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
        named, preferred = fields.pop("model", None), fields.pop("model_pref", None)
        fields["model"] = named or preferred or "fast"
        system, raw = fields.pop("system_prompt", None), fields.pop("raw", False)
        if raw and (messages is not None or system is not None):
            raise TypeError("raw goes with a prompt alone: messages and system_prompt need the model's template")
        if raw:
            self.path = "/v1/completions"
            fields["prompt"] = prompt
        else:
            self.path = "/v1/chat/completions"
            if messages is not None and system is not None:
                raise TypeError("system_prompt cannot be used with messages: make it one of the messages")
            own = [{"role": "user", "content": prompt}] if messages is None else list(messages)
            fields["messages"] = own if system is None else [{"role": "system", "content": system}, *own]
            if "logprobs" in fields:
                fields["logprobs"], fields["top_logprobs"] = True, fields["logprobs"]
        self._fields = {**fields, "stream": True, "stream_options": {"include_usage": True}}

    def encode(self, limit_ms: int) -> bytes:
        """The bytes to post; the answer may take `limit_ms`."""
        return json.dumps({"timeout_ms": limit_ms, **self._fields}, allow_nan=False).encode()


def error_of(status: int, body: bytes, headers: Mapping[str, str]) -> MmsError:
    """The error that an HTTP response stands for."""
    try:
        error = json.loads(body)["error"]
        code, message = error.get("code"), str(error["message"])
        known = ("code", "message", "type", "param", "details")
        details = {key: value for key, value in error.items() if key not in known}
        details.update(error.get("details") or {})
        if error.get("param"):
            details.setdefault("argument", error["param"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return BadReply(f"HTTP status {status} without an error of the suite: {body[:200]!r}")
    seconds = headers.get("retry-after", "")
    if seconds.isdigit():
        details.setdefault("retry_after_ms", int(seconds) * 1000)
    return refusal(code, message, details)


class Events:
    """Server-sent events out of bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The `data` of the events that are complete now; comments are dropped."""
        *whole, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        found = []
        for event in whole:
            lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                found.append(b"\n".join(line[1:] if line[:1] == b" " else line for line in lines).decode())
        return found


class Answer:
    """What a stream has brought so far."""

    def __init__(self) -> None:
        self.text = ""
        """All pieces together."""
        self.model_id: Optional[str] = None
        self.finish_reason: Optional[str] = None
        """`stop`, `length` or `tool_calls`; None until the end."""
        self.usage: Optional[dict[str, Any]] = None
        self.timings: Optional[dict[str, Any]] = None
        self.tool_calls: list[dict[str, Any]] = []
        """In OpenAI's shape."""
        self.logprobs: list[dict[str, Any]] = []
        """In OpenAI's shape."""
        self.complete = False
        """The server said that this is all."""

    def add(self, data: str) -> str:
        """Takes the data of one event; the text in it. Raises the error that the stream ends with."""
        if data.strip() == "[DONE]":
            self.complete = True
            return ""
        try:
            chunk: Reply = json.loads(data)
        except ValueError as error:
            raise BadReply(f"an event is no JSON: {data[:200]!r}") from error
        if chunk.get("error"):
            raise error_of(200, data.encode(), {})
        self.model_id = chunk.get("model") or self.model_id
        self.usage = chunk.get("usage") or self.usage
        self.timings = chunk.get("timings") or self.timings
        piece = ""
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            piece += delta.get("content") or choice.get("text") or ""
            self.tool_calls += delta.get("tool_calls") or []
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            found = choice.get("logprobs")
            if isinstance(found, dict):
                self.logprobs += found.get("content") or [found]
        self.text += piece
        return piece
