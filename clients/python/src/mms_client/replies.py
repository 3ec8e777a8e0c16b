"""The replies. At run time each is the dict that the server sent, with every key it has; the classes name those that it is sure to
have, and after them those that it may have."""

from __future__ import annotations

from typing import Any, Optional, TypedDict


class Reply(TypedDict):
    """What every reply has."""

    status: str
    request_id: str


class Ping(Reply):
    """To `ping`."""

    agent: str
    version: str
    timestamp: float


class ModelState(TypedDict):
    """The state of one model in `Health`."""

    status: str
    message: str


class Health(Reply):
    """To `health_check`; `status` is `healthy` or `degraded` (legacy profile: `ok` or `error`)."""

    message: str
    total_models: int
    online_models: int
    loaded_models: int
    vram_used_mb: float
    vram_budget_mb: float
    model_details: dict[str, ModelState]
    ready: bool
    timestamp: float


class Resident(TypedDict):
    """A model in memory."""

    vram_usage_mb: float
    device: Optional[str]
    last_used: Optional[float]
    is_active: bool
    quantization: Optional[str]


class Status(Reply):
    """To `status`."""

    loaded_models: dict[str, Resident]
    total_models: int
    total_vram_used_mb: float
    total_vram_mb: float
    routing_policy: dict[str, str]
    routing_models: dict[str, list[str]]
    health: str
    timestamp: float


class LoadedModels(Reply):
    """To `get_loaded_models_status`."""

    loaded_models: dict[str, Resident]
    total_models: int
    total_vram_used_mb: float
    total_vram_mb: float


class Model(TypedDict):
    """An entry of the catalogue; there are more keys."""

    model_id: str
    model_path: Optional[str]
    type: str
    quantization: Optional[str]
    estimated_vram_mb: float
    n_ctx: Optional[int]
    context_length: Optional[int]
    capabilities: list[str]
    loaded: bool
    status: str
    last_used: Optional[float]


class Models(Reply):
    """To `list_models`."""

    models: list[Model]


class ModelStatus(Reply):
    """To `get_model_status`."""

    model_name: str
    model_info: Model
    is_loaded: bool
    last_used_timestamp: Optional[float]
    current_memory_usage_mb: float


class OneOfAll(TypedDict):
    """One model in `AllModels`."""

    info: Model
    is_loaded: bool
    current_memory_usage_mb: float
    last_used_timestamp: Optional[float]


class AllModels(Reply):
    """To `get_all_models`."""

    models: dict[str, OneOfAll]
    loaded_models: Any
    vram_usage: dict[str, Any]


class Memory(Reply):
    """To `get_memory_status`."""

    device: str
    total_gpu_memory_mb: float
    vram_budget_mb: float
    mma_estimated_used_vram_mb: float
    mma_estimated_free_vram_mb_in_budget: float
    usage_percent_of_budget: float
    loaded_model_instances: dict[str, float]


class Stats(Reply):
    """To `get_stats`."""

    metrics: dict[str, Any]


class Loaded(Reply):
    """To `load_model`."""

    loaded: bool
    message: str
    model_status: str
    model_id: str
    vram_mb: float
    load_ms: Optional[float]


class Unloaded(Reply):
    """To `unload_model`."""

    unloaded: bool
    message: str
    model_status: str


class Preloaded(Reply):
    """To `preload_models`."""

    message: str
    loaded: list[str]
    failed: dict[str, str]


class Usage(TypedDict):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class _Generated(Reply):
    text: str
    model_id: str
    tokens_generated: int
    finish_reason: str
    usage: Usage
    timings: dict[str, float]
    conversation_id: Optional[str]


class Generated(_Generated, total=False):
    """To `generate`, `generate_text` and `chat`."""

    response_text: str
    model_used: str
    reason: str
    timestamp: float
    using_kv_cache: bool
    conversation_turns: int
    turns_left_out: int
    tool_calls: list[dict[str, Any]]
    logprobs: list[dict[str, Any]]


class Embedded(Reply):
    """To `embed`."""

    embeddings: list[list[float]]
    model_id: str
    dimensions: int
    usage: dict[str, int]


class Cleared(Reply):
    """To `clear_conversation`."""

    message: str
    conversation_id: str
    cleared: bool


class Figures(TypedDict):
    """What a model was measured by when models were compared."""

    model_id: str
    score: float
    resident: float
    latency_ms: Optional[float]
    requests: int
    trust_score: Optional[float]
    evaluations: int


class Selected(Reply):
    """To `select_model`."""

    selected_model: str
    model_info: Model
    reason: str
    task_type: str
    figures: list[Figures]


class Predicted(Reply):
    """To `predict_models`, best first."""

    predicted_models: list[str]
    scores: dict[str, float]
    probabilities: dict[str, float]
    weights: dict[str, float]
    uses: int
    lookahead_s: float
    preloading: dict[str, Any]


class Noted(Reply):
    """To `record_usage`."""

    message: str


class MetricLogged(Reply):
    """To `log_performance_metric`; it is on disk."""

    metric_id: str


class Metric(TypedDict):
    """One row of `Metrics`."""

    metric_id: str
    agent_name: str
    metric_name: str
    value: float
    timestamp: Optional[float]
    context: Any


class Metrics(Reply):
    """To `get_performance_metrics`, newest first."""

    metrics: list[Metric]
    next_cursor: Optional[str]


class EvaluationLogged(Reply):
    """To `log_model_evaluation`; it is on disk."""

    evaluation_id: str


class Evaluation(TypedDict):
    """One row of `Evaluations`."""

    evaluation_id: str
    model_name: str
    cycle_id: str
    trust_score: float
    accuracy: Optional[float]
    f1_score: Optional[float]
    avg_latency_ms: float
    evaluation_timestamp: Optional[float]
    comparison_data: Any


class Evaluations(Reply):
    """To `get_model_evaluation_scores`."""

    scores: list[Evaluation]
    next_cursor: Optional[str]


class _Cached(Reply):
    cached: bool


class Cached(_Cached, total=False):
    """To `get_cached_response`; `response` is there when `cached` is true."""

    response: Any


class Stored(Reply):
    """To `cache_response`."""

    message: str


class ModelReady(TypedDict):
    """To the model request; `status` is `MODEL_READY`."""

    status: str
    request_id: str
    model_id: str
    access_info: dict[str, Any]
    timestamp: str
