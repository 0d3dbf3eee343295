"""Observe answers: their spans on the console, and their metrics on a page for Prometheus.

    python examples/observe.py
    curl http://127.0.0.1:9464/metrics

Runs without a key, until it is interrupted. Needs rxmistral[otel], opentelemetry-sdk and
opentelemetry-exporter-prometheus.
"""

import os
from contextlib import suppress

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from prometheus_client import start_http_server

from rxmistral import Mistral, UserMessage
from rxmistral.telemetry import OpenTelemetry

tracer_provider = TracerProvider()  # for a server: BatchSpanProcessor, and an exporter of OTLP
tracer_provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
meter_provider = MeterProvider([PrometheusMetricReader()])
tracer = tracer_provider.get_tracer("observe")

port = int(os.environ.get("PORT", "9464"))
_, page = start_http_server(port, addr="127.0.0.1")

telemetry = OpenTelemetry(tracer_provider, meter_provider)
with Mistral.demo(telemetry=telemetry) as client:  # or Mistral(telemetry=telemetry)
    with tracer.start_as_current_span("greeting"):  # the parent of the answer's span
        answer = client.chat.stream(
            model="mistral-small-latest", messages=[UserMessage(content="Say hello.")]
        )
        print(answer.text().join().run(), flush=True)
    with suppress(KeyboardInterrupt):
        page.join()
