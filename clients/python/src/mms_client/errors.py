"""What can go wrong, one class for each code of the server and for each fault of the way there.

All are `MmsError`. `Timeout` is also the built-in `TimeoutError`, `ConnectionFailed` and `ConnectionLost` are also the built-in
`ConnectionError`, so code that knows only those catches them as well.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional


class MmsError(Exception):
    """A request that was not done. `code` is the server's `error.code`, `details` the figures behind the message."""

    code = "error"

    def __init__(self, message: str, *, code: Optional[str] = None, details: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.details: dict[str, Any] = dict(details or {})

    @property
    def retry_after(self) -> Optional[float]:
        """Seconds after which the server wants to be asked again; None: it did not say."""
        pause = self.details.get("retry_after_ms")
        return pause / 1000 if isinstance(pause, (int, float)) and pause >= 0 else None


class Unreachable(MmsError, ConnectionError):
    """The way to the server is at fault."""

    code = "unreachable"


class ConnectionFailed(Unreachable):
    """No connection in time. The request was never sent, so sending it again is safe."""

    code = "connection_failed"


class ConnectionLost(Unreachable):
    """The server went away after the request was sent. Whether it was done is not known."""

    code = "connection_lost"


class BadReply(MmsError):
    """What came back is not the answer to the request: no JSON object, or another request's id."""

    code = "bad_reply"


class ClientClosed(MmsError):
    """The client was closed."""

    code = "client_closed"


class Timeout(MmsError, TimeoutError):
    """The time was up. As the server says it, `details` tell how far the load of the model was."""

    code = "timeout"


class NoReply(Timeout):
    """No answer came in time. Whether the request was done is not known; a generation that nobody waits for any more is ended."""

    code = "no_reply"


class NotReady(MmsError):
    """Not done now, and worth asking for later; see `retry_after`."""

    code = "not_ready"


class QueueFull(NotReady):
    """Too many requests wait already."""

    code = "queue_full"


class Quarantined(NotReady):
    """The model has failed repeatedly and is tried again later."""

    code = "quarantined"


class ShuttingDown(NotReady):
    """The server is ending and takes no new work."""

    code = "shutting_down"


class StoreUnavailable(NotReady):
    """The evaluation store cannot be used now: off, locked, read-only, damaged, no space. Nothing was kept."""

    code = "store_unavailable"


class RequestError(MmsError):
    """The request is at fault; sending it again changes nothing."""

    code = "request_error"


class InvalidJson(RequestError):
    """The bytes are not JSON."""

    code = "invalid_json"


class InvalidRequest(RequestError):
    """JSON, but not a request."""

    code = "invalid_request"


class UnknownOperation(RequestError):
    """The server has no such operation."""

    code = "unknown_operation"


class MissingArgument(RequestError):
    """A required argument is missing; `details["argument"]` names it where the server does."""

    code = "missing_argument"


class InvalidArgument(RequestError):
    """An argument is of the wrong type or out of its range; `details["argument"]` names it."""

    code = "invalid_argument"


class TooLarge(RequestError):
    """More bytes than the server accepts."""

    code = "too_large"


class ContextExceeded(RequestError):
    """The prompt does not fit into the model's context; `details` have `prompt_tokens` and `context_length`."""

    code = "context_exceeded"


class ModelError(MmsError):
    """The model is at fault, or what it needs."""

    code = "model_error"


class ModelNotFound(ModelError):
    """No model of that name in the catalogue."""

    code = "model_not_found"


class ModelBroken(ModelError):
    """The model's file is broken or incomplete."""

    code = "model_broken"


class LoadFailed(ModelError):
    """The model could not be loaded."""

    code = "load_failed"


class InsufficientMemory(ModelError):
    """The memory budget cannot hold the model."""

    code = "insufficient_memory"


class WorkerDied(ModelError):
    """The worker process of the model died while it worked on this."""

    code = "worker_died"


class Cancelled(MmsError):
    """The model was unloaded by force meanwhile."""

    code = "cancelled"


class Internal(MmsError):
    """A fault of the server."""

    code = "internal"


_BY_CODE: dict[str, type[MmsError]] = {
    kind.code: kind
    for kind in (
        *(Timeout, QueueFull, Quarantined, ShuttingDown, StoreUnavailable, Cancelled, Internal),
        *(InvalidJson, InvalidRequest, UnknownOperation, MissingArgument, InvalidArgument, TooLarge, ContextExceeded),
        *(ModelNotFound, ModelBroken, LoadFailed, InsufficientMemory, WorkerDied),
    )
}

# OpenAI's names of two codes, as the HTTP interface gives them.
_BY_CODE["context_length_exceeded"] = ContextExceeded
_BY_CODE["unknown_url"] = UnknownOperation


def refusal(code: Optional[str], message: str, details: Optional[Mapping[str, Any]] = None) -> MmsError:
    """The error for a code of the server; a code that this version does not know becomes a plain `MmsError`."""
    kind = _BY_CODE.get(code or "")
    return MmsError(message, code=code, details=details) if kind is None else kind(message, details=details)
