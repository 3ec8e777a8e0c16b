"""`ModelManagerAgent` as its callers know it: the old names and shapes, every answer by the suite.

The old object was the server; this one only asks it. So nothing here holds state about models, and what the old one did in the
background (unloading idle models, watching memory, reporting) is the suite's own business.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, Mapping, Optional

from .. import address
from ..client import Client
from ..errors import MmsError
from ..operations import operation_of
from ..wire import Reply, encode

logger = logging.getLogger("ModelManager")

OLD_PORT = 5570


MODEL_MANAGER_PORT = int(address.find(default_port=OLD_PORT).main.rpartition(":")[2])
"""Where callers find the server, by the environment."""



class LegacyWarning(UserWarning):
    """Something that the old object did and that a mere client cannot, or need not."""


def _warn(text: str) -> None:
    warnings.warn(text, LegacyWarning, stacklevel=3)


class ModelManagerAgent:
    """The old agent, as a client of the suite at `MODEL_MANAGER_HOST` and `MODEL_MANAGER_PORT` (or 127.0.0.1:5570).

    Methods give what the old ones gave: booleans, pairs or dicts, with the words `ok` and `error`; they log and do not raise when the
    server is not there. `client` is the typed client behind it, which does raise.
    """

    def __init__(self, config_path: Optional[str] = None, **kwargs: Any) -> None:
        """`port` and `host` name the server. `config_path` and everything else of old configured what is now the server."""
        port, host = kwargs.pop("port", None), kwargs.pop("host", None)
        name = kwargs.pop("name", None) or "ModelManagerAgent"
        ignored = (["config_path"] if config_path is not None else []) + sorted(kwargs)
        if ignored:
            _warn(f"{', '.join(ignored)} has no effect: the models are served by mms, which has its own configuration")
        found = address.find(None, host, None if port is None else int(port), default_port=OLD_PORT)
        self.client = Client(found.main, http=found.http)
        self.name = str(name)
        self.port = int(found.main.rpartition(":")[2])
        self.running = True

    # Requests

    def handle_request(self, request: Any) -> Any:
        """A request of any of the old dialects; its reply (an array for SELECT_MODEL on the legacy profile)."""
        if not isinstance(request, dict):
            return {"status": "ERROR", "message": "Request must be a dictionary"}
        try:
            encode(request)
            return _old_words(request, self.client.forward(request))
        except (MmsError, TypeError, ValueError) as error:
            logger.error("%s: %s", operation_of(request).name or "request", error)
            word = "ERROR" if "command" in request else "error"
            code = error.code if isinstance(error, MmsError) else "invalid_argument"
            return {"status": word, "message": str(error), "error_code": code}

    def generate(
        self,
        prompt: str,
        model_pref: str = "fast",
        params: Optional[Mapping[str, Any]] = None,
        *,
        conversation_id: Optional[str] = None,
        **more: Any,
    ) -> Any:
        """`response_text`, `model_used` and the rest, or `status: error` with a message."""
        request: Reply = {"action": "generate", "model_pref": model_pref, "prompt": prompt, "params": {**(params or {}), **more}}
        if conversation_id is not None:
            request["conversation_id"] = conversation_id
        return self.handle_request(request)

    def generate_code_with_cga(self, request_data: Mapping[str, Any]) -> Any:
        """Code for `description`, by the model of `model_id`. The old one asked a code agent of its own; this one asks the model."""
        language = request_data.get("language", "python")
        prompt = f"Write a program in {language}: {request_data.get('description', '')}"
        if request_data.get("context"):
            prompt += f"\n\nGiven is:\n{request_data['context']}"
        request: Reply = {"action": "generate", "prompt": prompt}
        for key in ("model_id", "request_id"):
            if request_data.get(key) is not None:
                request[key] = request_data[key]
        return self.handle_request(request)

    def clear_conversation(self, conversation_id: str) -> Any:
        """Forgets a conversation."""
        return self.handle_request({"action": "clear_conversation", "conversation_id": conversation_id})

    # Models

    def load_model(self, model_id: str) -> bool:
        """Whether the model is loaded now; the log says why not."""
        return self._done({"action": "load_model", "model_id": model_id})

    def unload_model(self, model_id: str) -> bool:
        """Whether the model is not loaded now; the log says why not."""
        return self._done({"action": "unload_model", "model_id": model_id})

    def select_model(
        self, task_type: str, context_size: Optional[int] = None
    ) -> "tuple[Optional[str], Optional[dict[str, Any]]]":
        """The id and the catalogue's entry of the best model for a task; (None, None) when there is none."""
        reply = self._reply({"action": "select_model", "task_type": task_type, "context_size": context_size})
        return (reply["selected_model"], reply.get("model_info")) if reply.get("selected_model") else (None, None)

    def get_model_status(self, model_name: str) -> Any:
        """`model_info`, `is_loaded` and the rest."""
        return self.handle_request({"type": "get_model_status", "model_name": model_name})

    def get_all_models(self) -> Any:
        """`models` by id."""
        return self.handle_request({"type": "get_all_models"})

    def get_loaded_models_status(self) -> Any:
        """`loaded_models` by id, and memory."""
        return self.handle_request({"command": "GET_LOADED_MODELS_STATUS"})

    def get_memory_status(self) -> Any:
        """The memory budget and what is held of it."""
        return self.handle_request({"type": "get_memory_status"})

    # Health

    def health_check(self) -> Any:
        """The server's health; `ok`, or `degraded`, or `error` when it does not answer."""
        return self.handle_request({"action": "health_check"})

    def health_check_models(self, publish_update: bool = True) -> Any:
        """As `health_check`. Updates are published by the suite, whatever `publish_update` says."""
        return self.health_check()

    def get_status(self) -> Any:
        """Resident models, memory and the routing policy."""
        return self.handle_request({"action": "status"})

    def verify_pc2_services(self) -> "dict[str, bool]":
        """Which downstream services answer; none when the server does not."""
        reply = self._reply({"action": "verify_services"})
        return {name: answers for name, answers in reply.items() if isinstance(answers, bool)}

    def _get_health_status(self) -> Any:
        """Under this name launchers of several agents asked each of them."""
        return self.health_check()

    # What the old object knew of itself

    @property
    def models(self) -> "dict[str, Any]":
        """The catalogue by id, as it is now."""
        entries = self._reply({"action": "list_models"}).get("models") or []
        return {entry["model_id"]: entry for entry in entries}

    @property
    def loaded_models(self) -> "dict[str, Any]":
        """The resident models by id, as they are now."""
        found: dict[str, Any] = self._reply({"command": "GET_LOADED_MODELS_STATUS"}).get("loaded_models") or {}
        return found

    @property
    def loaded_model_instances(self) -> "dict[str, float]":
        """MB held by each model, as it is now."""
        found: dict[str, float] = self._reply({"type": "get_memory_status"}).get("loaded_model_instances") or {}
        return found

    @property
    def device(self) -> str:
        """`cuda` or `cpu`."""
        return str(self._reply({"type": "get_memory_status"}).get("device", "cpu"))

    @property
    def vram_budget_mb(self) -> float:
        """The memory budget."""
        return float(self._reply({"type": "get_memory_status"}).get("vram_budget_mb", 0.0))

    @property
    def current_estimated_vram_used(self) -> float:
        """MB held of it."""
        return float(self._reply({"type": "get_memory_status"}).get("mma_estimated_used_vram_mb", 0.0))

    # What only a server does

    def run(self) -> None:
        """Returns at once: there is nothing to run here."""
        _warn("run() has no effect: the models are served by mms, start that (mms serve)")

    def check_idle_models(self) -> None:
        """No effect: the suite unloads idle models by itself."""
        _warn("check_idle_models() has no effect: mms unloads idle models by itself (models.idle_unload_s)")

    def report_vram_metrics_to_sdt(self) -> None:
        """No effect: the suite reports by itself."""
        _warn("report_vram_metrics_to_sdt() has no effect: mms tells about its memory by itself")

    def cleanup(self) -> None:
        """Closes the connection. The server and its models stay."""
        _warn("cleanup() ends only this client: the server and its models stay as they are")
        self._end()

    def stop(self) -> None:
        """As `cleanup`."""
        _warn("stop() ends only this client: the server and its models stay as they are")
        self._end()

    def shutdown(self) -> None:
        """As `cleanup`."""
        _warn("shutdown() ends only this client: the server and its models stay as they are")
        self._end()

    def _end(self) -> None:
        self.running = False
        self.client.close()

    def _reply(self, request: Reply) -> Reply:
        """The reply where it is a good one, else nothing; the log has the reason."""
        reply = self.handle_request({key: value for key, value in request.items() if value is not None})
        if isinstance(reply, dict) and str(reply.get("status", "")).lower() != "error":
            return reply
        logger.error("%s failed: %s", operation_of(request).name, reply.get("message") if isinstance(reply, dict) else reply)
        return {}

    def _done(self, request: Reply) -> bool:
        return bool(self._reply(request))


def _old_words(request: Mapping[str, Any], reply: Any) -> Any:
    """On the suite's own profile actions succeed with `success` where the old agent said `ok`, and health is `healthy`."""
    if isinstance(reply, dict) and ("action" in request or "method" in request):
        old = {"success": "ok", "healthy": "ok"}.get(str(reply.get("status")))
        return reply if old is None else {**reply, "status": old}
    return reply
