"""Telemetry costs nothing for a chunk, and none of its failures reaches an answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from faces import BOUND, Face
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from traces import WHOLE, Traces, ask

from rxmistral import Mistral
from rxmistral.telemetry import OpenTelemetry
from rxmistral.testing import Script, ScriptedServer, scripted_client, steps


def test_chunks_cost_no_call() -> None:
    calls = []
    for chunks in (2, 200):
        span, provider = Mock(spec=trace.Span), Mock(spec=trace.TracerProvider)
        span.get_span_context.return_value = trace.INVALID_SPAN_CONTEXT
        provider.get_tracer.return_value.start_span.return_value = span
        client = scripted_client(
            [*["a"] * chunks, steps.finish(), steps.done()],
            telemetry=OpenTelemetry(tracer_provider=provider),
        )
        ask(client).run()
        span.end.assert_called_once_with()
        calls.append(len(span.method_calls))
    assert calls[0] == calls[1]


def test_client_without_telemetry_does_not_import_it() -> None:
    code = """
import sys
from rxmistral import Mistral, UserMessage
with Mistral.demo() as client:
    client.chat.run(model="m", messages=[UserMessage(content="Say hello.")]).run()
sys.exit("opentelemetry" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=BOUND)


class BrokenExporter(SpanExporter):
    def export(self, spans: object) -> Any:
        raise ZeroDivisionError


class BrokenTracer(TracerProvider):
    def get_tracer(self, *args: Any, **options: Any) -> trace.Tracer:
        tracer = Mock(spec=trace.Tracer)
        tracer.start_span.side_effect = ZeroDivisionError
        return tracer


class BrokenSpan(TracerProvider):
    def get_tracer(self, *args: Any, **options: Any) -> trace.Tracer:
        span, tracer = Mock(spec=trace.Span), Mock(spec=trace.Tracer)
        for name in ("set_attributes", "set_attribute", "set_status", "end", "is_recording"):
            getattr(span, name).side_effect = ZeroDivisionError
        tracer.start_span.return_value = span
        return tracer


@pytest.mark.parametrize("make_provider", [BrokenTracer, BrokenSpan])
@pytest.mark.parametrize("script", [WHOLE, ["Hel", steps.drop()]], ids=["whole", "dropped"])
def test_exception_of_a_provider_is_logged(
    make_provider: Callable[[], TracerProvider],
    script: Script,
    read: Face,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ScriptedServer(lambda _: script) as server:
        with Mistral(server_url=server.url) as plain:
            expected = read(ask(plain).text())
        telemetry = OpenTelemetry(make_provider())
        with Mistral(server_url=server.url, telemetry=telemetry) as client:
            received = read(ask(client).text())
    assert list(map(str, received)) == list(map(str, expected))
    assert "ZeroDivisionError" in caplog.text
    assert {record.name for record in caplog.records} == {"rxmistral"}


def test_exception_of_an_exporter_does_not_end_the_answer(traces: Traces, read: Face) -> None:
    traces.tracer_provider.add_span_processor(SimpleSpanProcessor(BrokenExporter()))
    with ScriptedServer(WHOLE) as server, traces.client(server) as client:
        assert "".join(read(ask(client).text())).endswith("lo")


def test_argument_of_another_type_is_refused() -> None:
    for wrong in (OpenTelemetry, TracerProvider(), "otel", True):
        with pytest.raises(TypeError, match=r"^telemetry must"):
            Mistral(server_url="http://localhost", telemetry=wrong)  # type: ignore[arg-type]
    for name in ("tracer_provider", "meter_provider", "capture_content"):
        with pytest.raises(TypeError, match=f"^{name} must be"):
            OpenTelemetry(**{name: "yes"})  # type: ignore[arg-type]
