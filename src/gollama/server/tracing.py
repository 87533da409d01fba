"""OpenTelemetry traces of requests, where they are configured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from gollama.errors import OptionError
from gollama.server.record import RequestRecord

HTTP_ERROR = 500


class Tracer:
    """Makes no traces."""

    @contextlib.contextmanager
    def request(self, record: RequestRecord, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[None]:  # noqa: ARG002
        """A block that is one request."""
        yield

    def close(self) -> None:
        """Send what was not sent yet."""


class OtlpTracer(Tracer):
    """Sends a span for each request, by OTLP over HTTP. No text of a prompt or an answer is in it."""

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.propagate import extract
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace import SpanKind
        except ImportError:
            raise OptionError("otlp_endpoint needs OpenTelemetry: pip install 'gollama-cpu[otel]'") from None
        self._provider = TracerProvider(resource=Resource.create({"service.name": "gollama"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer("gollama.server")
        self._extract, self._kind = extract, SpanKind.SERVER

    @contextlib.contextmanager
    def request(self, record: RequestRecord, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[None]:
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in (b"traceparent", b"tracestate")}
        with self._tracer.start_as_current_span(f"{record.method} {record.path}", self._extract(carrier), self._kind,
                                                record_exception=False) as span:
            try:
                yield
            finally:
                for name, value in _attributes(record).items():
                    span.set_attribute(name, value)
                if record.status >= HTTP_ERROR:
                    from opentelemetry.trace import StatusCode

                    span.set_status(StatusCode.ERROR)

    def close(self) -> None:
        self._provider.shutdown()


def _attributes(record: RequestRecord) -> dict[str, Any]:
    """By OpenTelemetry's conventions for HTTP and for generative models."""
    found: dict[str, Any] = {
        "http.request.method": record.method, "url.path": record.path, "http.response.status_code": record.status,
        "client.address": record.client, "gollama.request.id": record.id}
    if record.model is not None:
        found |= {"gen_ai.provider.name": "gollama", "gen_ai.request.model": record.model}
    if record.usages:
        found |= {"gen_ai.usage.input_tokens": sum(one.prompt_tokens for one in record.usages),
                  "gen_ai.usage.output_tokens": sum(one.completion_tokens for one in record.usages)}
    if record.timings:
        found["gen_ai.server.time_to_first_token"] = max(one.time_to_first_token for one in record.timings)
        found["gollama.queue_seconds"] = max(one.queue_seconds for one in record.timings)
    return found


def make_tracer(endpoint: str | None) -> Tracer:
    return Tracer() if endpoint is None else OtlpTracer(endpoint)
