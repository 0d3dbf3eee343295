"""The spans and measurements that a program has exported, in memory."""

from __future__ import annotations

from typing import Any

from faces import BOUND, eventually
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rxmistral import EventStream, Mistral, UserMessage
from rxmistral.telemetry import OpenTelemetry
from rxmistral.testing import Script, ScriptedServer, steps

MESSAGES = [UserMessage(content="a private prompt")]
WHOLE: Script = ["Hel", "lo", steps.finish(usage=(3, 2)), steps.done()]


def ask(client: Mistral, **options: Any) -> EventStream:
    return client.chat.stream(model="m", messages=MESSAGES, **options)


class Traces:
    """The providers of a test, and the spans and measurements that were exported through them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader])
        self.tracer = self.tracer_provider.get_tracer("the program")

    def telemetry(self, *, capture_content: bool = False) -> OpenTelemetry:
        return OpenTelemetry(self.tracer_provider, self.meter_provider, capture_content)

    def client(self, server: ScriptedServer, **options: Any) -> Mistral:
        return Mistral(server_url=server.url, telemetry=self.telemetry(), **options)

    def spans(self, prefix: str = "chat ") -> list[ReadableSpan]:
        """Returns the spans that have ended, in this order."""
        found = self._exporter.get_finished_spans()
        return [span for span in found if span.name.startswith(prefix)]

    def wait_for_spans(self, count: int) -> list[ReadableSpan]:
        assert eventually(lambda: len(self.spans()) >= count, BOUND)
        return self.spans()

    def measurements(self) -> dict[str, list[Any]]:
        """Returns the data points of each metric."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: [*metric.data.data_points]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def shut_down(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def units(self) -> dict[str, str | None]:
        data = self._reader.get_metrics_data()
        assert data is not None
        (resource,) = data.resource_metrics
        return {
            metric.name: metric.unit for scope in resource.scope_metrics for metric in scope.metrics
        }


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def span_id(span: Any) -> int:
    identifier: int = span.get_span_context().span_id
    return identifier


def parent_id(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id
