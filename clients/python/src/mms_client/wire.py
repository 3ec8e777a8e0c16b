"""Requests and replies as bytes: the dialect `action`, one frame of JSON each way."""

from __future__ import annotations

import json
import uuid
from typing import Any, Mapping

from .errors import BadReply, MmsError, refusal

LONGEST_TIMEOUT_MS = 24 * 60 * 60 * 1000

Reply = dict[str, Any]


def new_request_id() -> str:
    """Unique; comes back with the reply."""
    return uuid.uuid4().hex


def encode(request: Mapping[str, Any]) -> bytes:
    """Raises ValueError for NaN and infinities, which JSON does not have, and TypeError for what is no JSON at all."""
    return json.dumps(request, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def decode(body: bytes) -> Any:
    """The JSON in a reply."""
    try:
        return json.loads(body)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadReply(f"the reply is no JSON: {error}") from error


def check_id(reply: Any, request_id: Any) -> Reply:
    """The reply, if it is one to that request. Only an error may lack the id: the server has none of a request that it could not read."""
    if not isinstance(reply, dict):
        raise BadReply(f"the reply is no JSON object but {type(reply).__name__}")
    if "request_id" not in reply and refusal_of(reply) is not None:
        return reply
    if reply.get("request_id") != request_id:
        raise BadReply("the reply belongs to another request: its request_id is not this one's")
    return reply


def refusal_of(reply: Reply) -> MmsError | None:
    """The error that a reply stands for, on either profile and in any dialect. The word `error` as the status alone is none:
    `health_check` has status words of its own."""
    error, message = reply.get("error"), reply.get("message") or reply.get("error_message")
    if isinstance(error, dict):
        figures = {key: value for key, value in error.items() if key not in ("code", "message")}
        details = figures.pop("details", None)
        figures.update(details if isinstance(details, dict) else {})
        code = error.get("code")
        return refusal(code if isinstance(code, str) else None, str(error.get("message") or message), figures)
    code = reply.get("error_code")
    if isinstance(code, str):
        return refusal(code, str(message or error or code))
    return None


def timeout_ms(seconds: float) -> int:
    """What the server is told when the client waits for `seconds`: a little less, so that its answer is the one that counts."""
    return max(1, min(LONGEST_TIMEOUT_MS, int((seconds - min(0.25, seconds / 10)) * 1000)))
