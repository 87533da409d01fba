"""What Prometheus reads: llama-server's names where it has one, with the model as a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gollama import monitor
from gollama.backends import DeviceMemory
from gollama.engine import EngineStats
from gollama.server.pool import ServedModel
from gollama.server.record import RequestRecord

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)


class Metrics:
    """Counts what requests cost, and reads the engines when it is asked. Event loop only."""

    def __init__(self, status: Callable[[], Sequence[ServedModel]]) -> None:
        self.registry = CollectorRegistry()
        self._engines = _Engines(status)
        self.registry.register(self._engines)
        model, registry = ["model"], self.registry
        self.in_flight = Gauge("gollama_requests_in_flight", "Requests that are being answered", registry=self.registry)
        self._requests = Counter("gollama_requests", "Requests by route and status", ["route", "status"], registry=self.registry)
        self._seconds = Histogram("gollama_request_seconds", "From a request's first byte to its answer's last", ["route"],
                                  registry=self.registry, buckets=SECONDS)
        self._queue = Histogram("gollama_queue_seconds", "Wait for a place in the batch", model, registry=registry, buckets=SECONDS)
        self._first = Histogram("gollama_time_to_first_token_seconds", "From the queue to the first token", model, registry=registry,
                                buckets=SECONDS)
        self._between = Histogram("gollama_inter_token_seconds", "Mean time between the tokens of one answer", model, registry=registry,
                                  buckets=TOKEN_SECONDS)
        self._prompt_seconds = Counter("llamacpp:prompt_seconds", "Total time spent processing prompts", model, registry=registry)
        self._predicted_seconds = Counter("llamacpp:tokens_predicted_seconds", "Total time spent generating tokens", model,
                                          registry=registry)
        self._longest = Gauge("llamacpp:n_tokens_max", "Largest observed sequence length (prompt + generation)", model, registry=registry)
        self._lengths: dict[str, int] = {}

    def observe(self, record: RequestRecord, seconds: float) -> None:
        """A request has ended."""
        self._requests.labels(record.route, str(record.status)).inc()
        self._seconds.labels(record.route).observe(seconds)
        if record.model is None:
            return
        for timings in record.timings:
            self._queue.labels(record.model).observe(timings.queue_seconds)
            self._prompt_seconds.labels(record.model).inc(timings.prompt_seconds)
            self._predicted_seconds.labels(record.model).inc(timings.decode_seconds)
            if timings.completion_tokens:
                self._first.labels(record.model).observe(timings.time_to_first_token)
            if timings.completion_tokens > 1:
                self._between.labels(record.model).observe(timings.decode_seconds / (timings.completion_tokens - 1))
            length = timings.prompt_tokens + timings.completion_tokens
            if length > self._lengths.get(record.model, 0):
                self._lengths[record.model] = length
                self._longest.labels(record.model).set(length)

    def text(self, memory: dict[str, tuple[DeviceMemory, ...]]) -> bytes:
        """All of it, as Prometheus reads it. `memory`: what each loaded model takes of each device."""
        self._engines.memory = memory
        return generate_latest(self.registry)


Value = Callable[[EngineStats, int], float]

COUNTERS: tuple[tuple[str, str, Value], ...] = (
    ("llamacpp:prompt_tokens", "Number of prompt tokens processed, excluding cached tokens",
     lambda stats, _: stats.prompt_tokens - stats.cached_tokens),
    ("llamacpp:prompt_tokens_cached", "Number of prompt tokens reused from the cache", lambda stats, _: stats.cached_tokens),
    ("llamacpp:tokens_predicted", "Number of generation tokens processed", lambda stats, _: stats.completion_tokens),
    ("llamacpp:n_decode", "Total number of llama_decode() calls", lambda stats, _: stats.steps),
    ("llamacpp:spec_decode_num_draft_tokens", "Speculative: Total draft tokens generated", lambda stats, _: stats.drafted_tokens),
    ("llamacpp:spec_decode_num_accepted_tokens", "Speculative: Total draft tokens accepted by the target model",
     lambda stats, _: stats.accepted_tokens),
    ("gollama_engine_seconds", "Time in the engine's steps", lambda stats, _: stats.step_seconds),
    ("gollama_decode_seconds", "Time in llama_decode()", lambda stats, _: stats.decode_seconds),
    ("gollama_sample_seconds", "Time in the samplers", lambda stats, _: stats.sample_seconds),
)
GAUGES: tuple[tuple[str, str, Value], ...] = (
    ("llamacpp:requests_processing", "Number of requests processing", lambda stats, _: stats.running),
    ("llamacpp:requests_deferred", "Number of requests deferred", lambda stats, _: stats.waiting),
    ("llamacpp:n_busy_slots_per_decode", "Average number of tokens generated per llama_decode() call",
     lambda stats, _: stats.completion_tokens / stats.steps if stats.steps else 0.0),
    ("llamacpp:prompt_tokens_seconds", "Average prompt throughput in tokens/s, over the engine's time",
     lambda stats, _: (stats.prompt_tokens - stats.cached_tokens) / stats.step_seconds if stats.step_seconds else 0.0),
    ("llamacpp:predicted_tokens_seconds", "Average generation throughput in tokens/s, over the engine's time",
     lambda stats, _: stats.completion_tokens / stats.step_seconds if stats.step_seconds else 0.0),
    ("gollama_kv_tokens", "Tokens in the context's memory", lambda stats, _: stats.tokens_in_memory),
    ("gollama_kv_usage_ratio", "Share of the context's memory that is in use",
     lambda stats, size: stats.tokens_in_memory / (stats.sequences * size) if stats.sequences and size else 0.0),
    ("gollama_batch_fill_ratio", "Share of the sequences that are being computed",
     lambda stats, _: stats.running / stats.sequences if stats.sequences else 0.0),
    ("gollama_sequences", "Sequences that memory was made for", lambda stats, _: stats.sequences),
    ("gollama_saved_prefix_bytes", "Host memory of saved beginnings of prompts", lambda stats, _: stats.saved_bytes),
)
MEMORY = (("weights", "gollama_weights_bytes"), ("context", "gollama_context_bytes"), ("compute", "gollama_compute_bytes"))


class _Engines(Collector):
    """Reads the engines of the loaded models when Prometheus asks."""

    def __init__(self, status: Callable[[], Sequence[ServedModel]]) -> None:
        self._status = status
        self.memory: dict[str, tuple[DeviceMemory, ...]] = {}

    def collect(self) -> Iterable[Metric]:
        models = self._status()
        loaded = GaugeMetricFamily("gollama_model_loaded", "Whether the model is loaded", labels=["model"])
        for model in models:
            loaded.add_metric([model.name], float(model.state == "loaded"))
        yield loaded
        known = [(model.name, model.llm.stats(), model.llm.context_size) for model in models
                 if model.llm is not None and model.llm.model.is_generative]
        for kind, rows in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            for name, help_text, value in rows:
                family = kind(name, help_text, labels=["model"])
                for model_name, stats, size in known:
                    family.add_metric([model_name], float(value(stats, size)))
                yield family
        yield from self._memory()
        yield from _devices()

    def _memory(self) -> Iterator[Metric]:
        for field, name in MEMORY:
            family = GaugeMetricFamily(name, f"Bytes of a device that a model's {field} takes", labels=["model", "device"])
            for model, rows in self.memory.items():
                for row in rows:
                    family.add_metric([model, row.device], float(getattr(row, field)))
            yield family


def _devices() -> Iterator[Metric]:
    """What the device monitors of this process saw last."""
    used = GaugeMetricFamily("gollama_device_memory_used_bytes", "Bytes of a device that all programs use", labels=["device"])
    busy = GaugeMetricFamily("gollama_device_utilization_ratio", "Share of the time that a device computes", labels=["device"])
    for use in monitor.use_since(float("inf")):
        used.add_metric([use.device], float(use.peak_memory))
        if use.mean_utilization is not None:
            busy.add_metric([use.device], use.mean_utilization)
    yield used
    yield busy
