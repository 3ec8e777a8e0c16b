"""The operations of the main port, and of each whether doing it twice is the same as doing it once."""

from __future__ import annotations

from typing import NamedTuple


class Operation(NamedTuple):
    """One operation."""

    name: str
    repeatable: bool = True
    """A second try after the first one's fate is unknown does no harm."""
    slow: bool = False
    """It may load a model or compute: it has the long timeout, and one attempt gets all of it."""
    timed: bool = False
    """The server takes `timeout_ms` with it, and says in time what is not done."""
    generates: bool = False
    """Not repeated unless the client was told so (`retry_generate`)."""


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("ping"),
        Operation("health_check"),
        Operation("status"),
        Operation("list_models"),
        Operation("get_model_status"),
        Operation("get_all_models"),
        Operation("get_loaded_models_status"),
        Operation("get_memory_status"),
        Operation("get_stats"),
        Operation("load_model", slow=True, timed=True),
        Operation("unload_model", slow=True),
        Operation("preload_models", slow=True),
        Operation("generate", repeatable=False, slow=True, timed=True, generates=True),
        Operation("generate_text", repeatable=False, slow=True, timed=True, generates=True),
        Operation("embed", slow=True, timed=True),
        Operation("clear_conversation"),
        Operation("select_model"),
        Operation("predict_models"),
        Operation("record_usage", repeatable=False),
        Operation("log_performance_metric", repeatable=False),
        Operation("get_performance_metrics"),
        Operation("log_model_evaluation", repeatable=False),
        Operation("get_model_evaluation_scores"),
        Operation("get_cached_response"),
        Operation("cache_response"),
        Operation("verify_services"),
    )
}

ALIASES = {"health": "health_check", "embeddings": "embed"}


def operation(name: str) -> Operation:
    """The operation of that name, in any case. One that this version does not know counts as not repeatable and slow."""
    lower = name.lower()
    return OPERATIONS.get(ALIASES.get(lower, lower)) or Operation(name, repeatable=False, slow=True)


def operation_of(request: dict[str, object]) -> Operation:
    """The operation that a request of any dialect asks for."""
    for key in ("method", "action", "command", "type"):
        name = request.get(key)
        if isinstance(name, str):
            if key == "command" and name.lower() == "process" and isinstance(request.get("type"), str):
                name = str(request["type"])
            return operation(name)
    return OPERATIONS["load_model"]._replace(timed=False) if "model_id" in request else operation("")
