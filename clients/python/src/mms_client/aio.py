"""The client for asyncio."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Mapping, Optional, Sequence, TypeVar, Union, cast, overload

import zmq

from . import address
from .aio_stream import AsyncTokenStream
from .client import LONGEST_WAIT_S
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

if TYPE_CHECKING:
    from typing_extensions import Unpack

_R = TypeVar("_R")


class AsyncClient:
    """A client of one server, for asyncio.

    Any number of tasks may use one client at the same time, in any event loop: each request has a connection of its own while it
    lasts. A task that is cancelled ends its request, at the server too. Not for several threads at once; each takes its own.

    The methods are those of `Client`, with the same arguments.
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
        """See `Client`."""
        found = address.find(endpoint, host, port, http)
        self.settings = Settings(
            found.main, found.http, timeout, work_timeout, connect_timeout, retries, retry_generate, heartbeat
        )
        self._core = Core(self.settings, context)

    def close(self) -> None:
        """Ends the connections. Requests under way in other tasks end as they would."""
        self._core.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    async def call(self, name: str, /, *, timeout: Optional[float] = None, **given: Any) -> dict[str, Any]:
        """Any operation by its name, also one that this version does not know (such a one is not repeated)."""
        return await _drive(self._core.call(operation(name), given, timeout))

    async def forward(self, request: Any, *, timeout: Optional[float] = None) -> Any:
        """A request of any dialect as it stands, once; the reply as it stands, also one that says `error`."""
        known = operation_of(request) if isinstance(request, dict) else operation("")
        return await _drive(self._core.forward(known, request, timeout))

    async def _ask(self, kind: type[_R], name: str, timeout: Optional[float], **given: Any) -> _R:
        return cast(_R, await _drive(self._core.call(OPERATIONS[name], given, timeout)))

    # What the server is and has

    async def ping(self, *, timeout: Optional[float] = None) -> Ping:
        """Is anybody there?"""
        return await self._ask(Ping, "ping", timeout)

    async def health_check(self, *, timeout: Optional[float] = None) -> Health:
        """Counts, memory and the state of every model."""
        return await self._ask(Health, "health_check", timeout)

    async def get_status(self, *, timeout: Optional[float] = None) -> Status:
        """Resident models, memory and the routing policy (the operation `status`)."""
        return await self._ask(Status, "status", timeout)

    async def list_models(self, *, timeout: Optional[float] = None) -> Models:
        """The catalogue."""
        return await self._ask(Models, "list_models", timeout)

    async def get_model_status(self, model: str, *, timeout: Optional[float] = None) -> ModelStatus:
        """One model of the catalogue."""
        return await self._ask(ModelStatus, "get_model_status", timeout, model_id=model)

    async def get_all_models(self, *, timeout: Optional[float] = None) -> AllModels:
        """Every model by its id."""
        return await self._ask(AllModels, "get_all_models", timeout)

    async def get_loaded_models_status(self, *, timeout: Optional[float] = None) -> LoadedModels:
        """The resident models."""
        return await self._ask(LoadedModels, "get_loaded_models_status", timeout)

    async def get_memory_status(self, *, timeout: Optional[float] = None) -> Memory:
        """The memory budget and what is held of it."""
        return await self._ask(Memory, "get_memory_status", timeout)

    async def get_stats(self, *, timeout: Optional[float] = None) -> Stats:
        """Counters since the server's start."""
        return await self._ask(Stats, "get_stats", timeout)

    async def verify_services(self, *, timeout: Optional[float] = None) -> dict[str, Any]:
        """Which of the configured downstream services answer."""
        return await self._ask(dict, "verify_services", timeout)

    # Models in memory

    async def load_model(
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
        return await self._ask(Loaded, "load_model", timeout, model_id=model, **given)

    async def unload_model(self, model: str, *, timeout: Optional[float] = None) -> Unloaded:
        """Gives a model's memory back. A model that is not loaded is no error."""
        return await self._ask(Unloaded, "unload_model", timeout, model_id=model)

    async def preload_models(self, models: Sequence[str], *, timeout: Optional[float] = None) -> Preloaded:
        """Makes several models resident; the reply tells which ones were not, and why."""
        return await self._ask(Preloaded, "preload_models", timeout, model_ids=list(models))

    async def request_model(
        self, model: str, *, quantization_level: Optional[str] = None, timeout: Optional[float] = None
    ) -> ModelReady:
        """The old agent's model request: loads, and tells where the model's file is."""
        request: dict[str, Any] = {"model_id": model, "context": {}}
        if quantization_level is not None:
            request["context"]["quantization_level"] = quantization_level
        return cast(ModelReady, await _drive(self._core.send(operation_of(request), request, timeout)))

    # Generations

    async def generate(self, prompt: str, *, timeout: Optional[float] = None, **options: Unpack[Options]) -> Generated:
        """An answer to a prompt by the model of `model` or `model_pref`. See `Options`.

        It is sent once, unless the server said that it was not done or `retry_generate` is set.
        """
        return await self._ask(Generated, "generate", timeout, **arguments(options, prompt=prompt))

    async def generate_text(
        self, model: str, prompt: str, *, timeout: Optional[float] = None, **options: Unpack[TextOptions]
    ) -> Generated:
        """As `generate`, with a named model and up to 1024 tokens."""
        return await self._ask(Generated, "generate_text", timeout, **arguments(options, model_id=model, prompt=prompt))

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = False,
        timeout: Optional[float] = None,
        **options: Unpack[Options],
    ) -> Generated: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[True],
        timeout: Optional[float] = None,
        **options: Unpack[Options],
    ) -> AsyncTokenStream: ...

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        timeout: Optional[float] = None,
        **options: Unpack[Options],
    ) -> Union[Generated, AsyncTokenStream]:
        """The next message of a chat; whole, or with `stream=True` piece by piece (over HTTP)."""
        if stream:
            return await AsyncTokenStream.open(self.settings, Body(None, messages, options), timeout)
        return await self._ask(Generated, "generate", timeout, **arguments(options, messages=list(messages)))

    async def stream(self, prompt: str, *, timeout: Optional[float] = None, **options: Unpack[Options]) -> AsyncTokenStream:
        """As `generate`, piece by piece (over HTTP)."""
        return await AsyncTokenStream.open(self.settings, Body(prompt, None, options), timeout)

    async def embed(
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
        return await self._ask(Embedded, "embed", timeout, input=input, **given)

    async def clear_conversation(self, conversation_id: str, *, timeout: Optional[float] = None) -> Cleared:
        """Forgets a conversation."""
        return await self._ask(Cleared, "clear_conversation", timeout, conversation_id=conversation_id)

    # Choosing and predicting

    async def select_model(
        self, task_type: str, context_size: Optional[int] = None, *, timeout: Optional[float] = None
    ) -> Selected:
        """The best model for a kind of task; the reply tells why."""
        return await self._ask(Selected, "select_model", timeout, task_type=task_type, context_size=context_size)

    async def predict_models(self, *, timeout: Optional[float] = None) -> Predicted:
        """The models that are probably wanted next, best first."""
        return await self._ask(Predicted, "predict_models", timeout)

    async def record_usage(self, model: str, *, timeout: Optional[float] = None) -> Noted:
        """Notes a use of a model for the prediction."""
        return await self._ask(Noted, "record_usage", timeout, model_id=model)

    # Evaluation

    async def log_performance_metric(
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
        return await self._ask(MetricLogged, "log_performance_metric", timeout, **given)

    async def get_performance_metrics(
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
        return await self._ask(Metrics, "get_performance_metrics", timeout, start_time=start_time, end_time=end_time, **given)

    async def log_model_evaluation(
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
        return await self._ask(EvaluationLogged, "log_model_evaluation", timeout, **given, **scores)

    async def get_model_evaluation_scores(
        self,
        model_name: Optional[str] = None,
        cycle_id: Optional[str] = None,
        *,
        limit: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> Evaluations:
        """Evaluations of models."""
        given = {"model_name": model_name, "cycle_id": cycle_id, "limit": limit}
        return await self._ask(Evaluations, "get_model_evaluation_scores", timeout, **given)

    # Cache of answers

    async def get_cached_response(
        self, model: str, prompt: str, *, system_prompt: Optional[str] = None, timeout: Optional[float] = None
    ) -> Cached:
        """A stored answer, if there is one."""
        given = {"model": model, "prompt": prompt, "system_prompt": system_prompt}
        return await self._ask(Cached, "get_cached_response", timeout, **given)

    async def cache_response(
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
        return await self._ask(Stored, "cache_response", timeout, **given)


async def _drive(steps: Steps[_R]) -> _R:
    """Goes through the steps, giving way to other tasks where they wait."""
    try:
        while True:
            await _wait(next(steps))
    except StopIteration as done:
        return cast(_R, done.value)
    finally:
        steps.close()


async def _wait(wait: Wait) -> None:
    seconds = min(wait.until - time.monotonic(), LONGEST_WAIT_S)
    if seconds <= 0:
        return
    if wait.link is None:
        await asyncio.sleep(seconds)
        return
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    # The steps have read all that there was before they wait, so these become readable with the next event. Registering them for
    # this one wait leaves nothing behind when the task is cancelled and the sockets are closed.
    files = (int(wait.link.socket.FD), int(wait.link.monitor.FD))
    for file in files:
        loop.add_reader(file, wake)
    timer = loop.call_later(seconds, wake)
    try:
        await woken
    finally:
        timer.cancel()
        for file in files:
            loop.remove_reader(file)
