"""The blocking client."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Mapping, Optional, Sequence, TypeVar, Union, cast, overload

import zmq

from . import address
from .core import Core, Settings
from .link import Steps, Wait
from .operations import OPERATIONS, operation, operation_of
from .options import Message, Options, TextOptions, arguments
from .replies import (
    AllModels,
    Cached,
    Cleared,
    Embedded,
    Evaluations,
    EvaluationLogged,
    Generated,
    Health,
    Loaded,
    LoadedModels,
    Memory,
    MetricLogged,
    Metrics,
    ModelReady,
    Models,
    ModelStatus,
    Noted,
    Ping,
    Predicted,
    Preloaded,
    Selected,
    Stats,
    Status,
    Stored,
    Unloaded,
)
from .sse import Body
from .stream import TokenStream

if TYPE_CHECKING:
    from typing_extensions import Unpack

_R = TypeVar("_R")
LONGEST_WAIT_S = 3600.0


class Client:
    """A client of one server.

    Any number of threads may use one client: each request has a connection of its own while it lasts, so none waits for another.
    After a fork the child may go on with it, on connections of its own (not with a `context` that was passed in). Close it, or use
    it as a context manager; a client that is never closed does not hold up the end of the program.

    Every method takes `timeout`, seconds for the whole request with all its attempts, and raises an `MmsError`.
    """

    def __init__(
        self,
        endpoint: Optional[str] = None,
        *,
        host: Optional[str] = None,
        port: Optional[int] = None,
        http: Optional[str] = None,
        timeout: float = 10.0,
        work_timeout: float = 300.0,
        connect_timeout: float = 5.0,
        retries: int = 3,
        retry_generate: bool = False,
        heartbeat: float = 5.0,
        context: Optional[zmq.Context[zmq.Socket[bytes]]] = None,
    ) -> None:
        """Does not connect yet. Raises ValueError for what is no address.

        endpoint: `tcp://host:port` or `host:port` of the main port. Else `host` and `port`, else `MODEL_MANAGER_HOST` and
            `MODEL_MANAGER_PORT` of the environment, else 127.0.0.1:9901.
        http: URL of the HTTP port, which only streams need. Else `HTTP_PORT` of the environment, else two above the main port.
        timeout: seconds for a request that only asks or notes something.
        work_timeout: seconds for a request that may load a model or compute (`generate`, `load_model`, `embed`...).
        connect_timeout: seconds of those to wait for a server that is not there.
        retries: how often a request is sent again where that is safe.
        retry_generate: also send a generation again when it is not known what became of it.
        heartbeat: seconds between signs of life; a server that gives none for four times as long counts as gone. 0: none.
        context: a pyzmq context in place of the shared one.
        """
        found = address.find(endpoint, host, port, http)
        self.settings = Settings(
            found.main, found.http, timeout, work_timeout, connect_timeout, retries, retry_generate, heartbeat
        )
        self._core = Core(self.settings, context)

    def close(self) -> None:
        """Ends the connections. Requests under way in other threads end as they would."""
        self._core.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def call(self, name: str, /, *, timeout: Optional[float] = None, **given: Any) -> dict[str, Any]:
        """Any operation by its name, also one that this version does not know (such a one is not repeated)."""
        return _drive(self._core.call(operation(name), given, timeout))

    def forward(self, request: Any, *, timeout: Optional[float] = None) -> Any:
        """A request of any dialect as it stands, once; the reply as it stands, also one that says `error`."""
        known = operation_of(request) if isinstance(request, dict) else operation("")
        return _drive(self._core.forward(known, request, timeout))

    def _ask(self, kind: type[_R], name: str, timeout: Optional[float], **given: Any) -> _R:
        return cast(_R, _drive(self._core.call(OPERATIONS[name], given, timeout)))

    # What the server is and has

    def ping(self, *, timeout: Optional[float] = None) -> Ping:
        """Is anybody there?"""
        return self._ask(Ping, "ping", timeout)

    def health_check(self, *, timeout: Optional[float] = None) -> Health:
        """Counts, memory and the state of every model."""
        return self._ask(Health, "health_check", timeout)

    def get_status(self, *, timeout: Optional[float] = None) -> Status:
        """Resident models, memory and the routing policy (the operation `status`)."""
        return self._ask(Status, "status", timeout)

    def list_models(self, *, timeout: Optional[float] = None) -> Models:
        """The catalogue."""
        return self._ask(Models, "list_models", timeout)

    def get_model_status(self, model: str, *, timeout: Optional[float] = None) -> ModelStatus:
        """One model of the catalogue."""
        return self._ask(ModelStatus, "get_model_status", timeout, model_id=model)

    def get_all_models(self, *, timeout: Optional[float] = None) -> AllModels:
        """Every model by its id."""
        return self._ask(AllModels, "get_all_models", timeout)

    def get_loaded_models_status(self, *, timeout: Optional[float] = None) -> LoadedModels:
        """The resident models."""
        return self._ask(LoadedModels, "get_loaded_models_status", timeout)

    def get_memory_status(self, *, timeout: Optional[float] = None) -> Memory:
        """The memory budget and what is held of it."""
        return self._ask(Memory, "get_memory_status", timeout)

    def get_stats(self, *, timeout: Optional[float] = None) -> Stats:
        """Counters since the server's start."""
        return self._ask(Stats, "get_stats", timeout)

    def verify_services(self, *, timeout: Optional[float] = None) -> dict[str, Any]:
        """Which of the configured downstream services answer."""
        return self._ask(dict, "verify_services", timeout)

    # Models in memory

    def load_model(
        self,
        model: str,
        *,
        device: Optional[str] = None,
        quantization_level: Optional[str] = None,
        keep_alive: Union[float, str, None] = None,
        timeout: Optional[float] = None,
    ) -> Loaded:
        """Makes a model resident. When the time is up the load goes on; the error's `details` tell how far it is."""
        given = {"device": device, "quantization_level": quantization_level, "keep_alive": keep_alive}
        return self._ask(Loaded, "load_model", timeout, model_id=model, **given)

    def unload_model(self, model: str, *, timeout: Optional[float] = None) -> Unloaded:
        """Gives a model's memory back. A model that is not loaded is no error."""
        return self._ask(Unloaded, "unload_model", timeout, model_id=model)

    def preload_models(self, models: Sequence[str], *, timeout: Optional[float] = None) -> Preloaded:
        """Makes several models resident; the reply tells which ones were not, and why."""
        return self._ask(Preloaded, "preload_models", timeout, model_ids=list(models))

    def request_model(
        self, model: str, *, quantization_level: Optional[str] = None, timeout: Optional[float] = None
    ) -> ModelReady:
        """The old agent's model request: loads, and tells where the model's file is."""
        request: dict[str, Any] = {"model_id": model, "context": {}}
        if quantization_level is not None:
            request["context"]["quantization_level"] = quantization_level
        return cast(ModelReady, _drive(self._core.send(operation_of(request), request, timeout)))

    # Generations

    def generate(self, prompt: str, *, timeout: Optional[float] = None, **options: Unpack[Options]) -> Generated:
        """An answer to a prompt by the model of `model` or `model_pref`. See `Options`.

        It is sent once, unless the server said that it was not done or `retry_generate` is set.
        """
        return self._ask(Generated, "generate", timeout, **arguments(options, prompt=prompt))

    def generate_text(
        self, model: str, prompt: str, *, timeout: Optional[float] = None, **options: Unpack[TextOptions]
    ) -> Generated:
        """As `generate`, with a named model and up to 1024 tokens."""
        return self._ask(Generated, "generate_text", timeout, **arguments(options, model_id=model, prompt=prompt))

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = False,
        timeout: Optional[float] = None,
        **options: Unpack[Options],
    ) -> Generated: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[True],
        timeout: Optional[float] = None,
        **options: Unpack[Options],
    ) -> TokenStream: ...

    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        timeout: Optional[float] = None,
        **options: Unpack[Options],
    ) -> Union[Generated, TokenStream]:
        """The next message of a chat; whole, or with `stream=True` piece by piece (over HTTP)."""
        if stream:
            return TokenStream(self.settings, Body(None, messages, options), timeout)
        return self._ask(Generated, "generate", timeout, **arguments(options, messages=list(messages)))

    def stream(self, prompt: str, *, timeout: Optional[float] = None, **options: Unpack[Options]) -> TokenStream:
        """As `generate`, piece by piece (over HTTP)."""
        return TokenStream(self.settings, Body(prompt, None, options), timeout)

    def embed(
        self,
        input: Union[str, Sequence[str], Sequence[int], Sequence[Sequence[int]]],
        *,
        model: Optional[str] = None,
        model_pref: Optional[str] = None,
        dimensions: Optional[int] = None,
        keep_alive: Union[float, str, None] = None,
        timeout: Optional[float] = None,
    ) -> Embedded:
        """Vectors of one text or several (or of tokens)."""
        given = {"model": model, "model_pref": model_pref, "dimensions": dimensions, "keep_alive": keep_alive}
        return self._ask(Embedded, "embed", timeout, input=input, **given)

    def clear_conversation(self, conversation_id: str, *, timeout: Optional[float] = None) -> Cleared:
        """Forgets a conversation."""
        return self._ask(Cleared, "clear_conversation", timeout, conversation_id=conversation_id)

    # Choosing and predicting

    def select_model(
        self, task_type: str, context_size: Optional[int] = None, *, timeout: Optional[float] = None
    ) -> Selected:
        """The best model for a kind of task; the reply tells why."""
        return self._ask(Selected, "select_model", timeout, task_type=task_type, context_size=context_size)

    def predict_models(self, *, timeout: Optional[float] = None) -> Predicted:
        """The models that are probably wanted next, best first."""
        return self._ask(Predicted, "predict_models", timeout)

    def record_usage(self, model: str, *, timeout: Optional[float] = None) -> Noted:
        """Notes a use of a model for the prediction."""
        return self._ask(Noted, "record_usage", timeout, model_id=model)

    # Evaluation

    def log_performance_metric(
        self,
        agent_name: str,
        metric_name: str,
        value: float,
        *,
        metadata: Optional[Mapping[str, Any]] = None,
        timeout: Optional[float] = None,
    ) -> MetricLogged:
        """Notes a measurement. Raises ValueError for NaN and infinities. Not repeated when its fate is unknown: it could count twice."""
        given = {"agent_name": agent_name, "metric_name": metric_name, "value": value, "metadata": metadata}
        return self._ask(MetricLogged, "log_performance_metric", timeout, **given)

    def get_performance_metrics(
        self,
        agent_name: Optional[str] = None,
        metric_name: Optional[str] = None,
        *,
        start_time: Union[float, str, None] = None,
        end_time: Union[float, str, None] = None,
        limit: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> Metrics:
        """Measurements, newest first. Times are epoch seconds or ISO 8601."""
        given = {"agent_name": agent_name, "metric_name": metric_name, "limit": limit}
        return self._ask(Metrics, "get_performance_metrics", timeout, start_time=start_time, end_time=end_time, **given)

    def log_model_evaluation(
        self,
        model_name: str,
        cycle_id: str,
        trust_score: float,
        *,
        accuracy: Optional[float] = None,
        f1_score: Optional[float] = None,
        avg_latency_ms: Optional[float] = None,
        comparison_data: Optional[Mapping[str, Any]] = None,
        timeout: Optional[float] = None,
    ) -> EvaluationLogged:
        """Notes an evaluation of a model. Not repeated when its fate is unknown: it could count twice."""
        scores = {"trust_score": trust_score, "accuracy": accuracy, "f1_score": f1_score, "avg_latency_ms": avg_latency_ms}
        given = {"model_name": model_name, "cycle_id": cycle_id, "comparison_data": comparison_data}
        return self._ask(EvaluationLogged, "log_model_evaluation", timeout, **given, **scores)

    def get_model_evaluation_scores(
        self,
        model_name: Optional[str] = None,
        cycle_id: Optional[str] = None,
        *,
        limit: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> Evaluations:
        """Evaluations of models."""
        given = {"model_name": model_name, "cycle_id": cycle_id, "limit": limit}
        return self._ask(Evaluations, "get_model_evaluation_scores", timeout, **given)

    # Cache of answers

    def get_cached_response(
        self, model: str, prompt: str, *, system_prompt: Optional[str] = None, timeout: Optional[float] = None
    ) -> Cached:
        """A stored answer, if there is one."""
        given = {"model": model, "prompt": prompt, "system_prompt": system_prompt}
        return self._ask(Cached, "get_cached_response", timeout, **given)

    def cache_response(
        self,
        model: str,
        prompt: str,
        response: Any,
        *,
        system_prompt: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> Stored:
        """Stores an answer."""
        given = {"model": model, "prompt": prompt, "system_prompt": system_prompt, "response": response}
        return self._ask(Stored, "cache_response", timeout, **given)


def _drive(steps: Steps[_R]) -> _R:
    """Goes through the steps, blocking where they wait."""
    try:
        while True:
            _block(next(steps))
    except StopIteration as done:
        return cast(_R, done.value)
    finally:
        steps.close()


def _block(wait: Wait) -> None:
    seconds = min(wait.until - time.monotonic(), LONGEST_WAIT_S)
    if seconds <= 0:
        return
    if wait.link is None:
        time.sleep(seconds)
        return
    poller = zmq.Poller()
    if wait.events:
        poller.register(wait.link.socket, wait.events)
    poller.register(wait.link.monitor, zmq.POLLIN)
    poller.poll(math.ceil(seconds * 1000))
