"""OpenTelemetry, which makes the spans of a client.

Strategy: a span is made the current one in two places only. A thread that sends a request does so
until the headers have arrived, before it reads the answer. A tool runs in a task of its own, whose
context ends with the task. Everywhere else, the program's own span is the current one.

No answer depends on telemetry: an exception of a provider, a processor or an exporter is logged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from logging import getLogger
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind, Status, StatusCode

from ..chat.client import __version__
from ..chat.settings import Call
from ..models import ToolCall
from ..outcome import Outcome
from . import names
from .attributes import (
    Attributes,
    decode_request,
    description_of,
    error_type_of,
    outcome_attributes,
    request_attributes,
    without_none,
)
from .histograms import Histograms
from .messages import input_messages, output_messages

__all__ = ["OpenTelemetry"]

_log = getLogger("rxmistral")

_CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING = ("span_only", "span_and_event", "true")


class OpenTelemetry:
    """An observer that traces and measures answers: `Mistral(telemetry=OpenTelemetry())`.

    Args:
        tracer_provider: The provider of the tracer. None: the global one.
        meter_provider: The provider of the meter. None: the global one.
        capture_content: Whether spans contain the messages of requests and answers, and the
            texts of all errors. False: only if the environment variable
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is SPAN_ONLY, SPAN_AND_EVENT or
            true.

    Raises:
        TypeError: An argument has another type.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo(telemetry=OpenTelemetry()) as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     answer.text().join().run()
    'Hello'
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        capture_content: bool = False,
    ) -> None:
        _check_type("tracer_provider", tracer_provider, trace.TracerProvider)
        _check_type("meter_provider", meter_provider, metrics.MeterProvider)
        if not isinstance(capture_content, bool):
            raise TypeError(f"capture_content must be a bool, got {type(capture_content).__name__}")
        variable = os.environ.get(_CAPTURE_VARIABLE, "").strip().lower()
        self._with_content = capture_content or variable in _CAPTURING
        self._tracer = trace.get_tracer("rxmistral", __version__, tracer_provider)
        self._histograms = Histograms(metrics.get_meter("rxmistral", __version__, meter_provider))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(capture_content={self._with_content})"

    def start_answer(self, call: Call) -> _AnswerSpan:
        """Starts the span of an answer; its parent is the current span."""
        url = urlsplit(call.url)
        common: Attributes = {
            names.OPERATION_NAME: "chat",
            names.PROVIDER_NAME: "mistral_ai",
            names.REQUEST_MODEL: call.model,
            names.SERVER_ADDRESS: url.hostname,
        }
        port = url.port or (443 if url.scheme == "https" else 80)
        attributes = {**common, names.SERVER_PORT: port}
        span = self._start(f"chat {call.model}", SpanKind.CLIENT, attributes)
        started = _AnswerSpan(span, self._histograms, common, self._with_content)
        with _logged():
            started.describe_request(call)
        return started

    @contextmanager
    def execute_tool(self, call: ToolCall) -> Iterator[None]:
        """Traces the tool call that runs within the block.

        Its span stays the current one of the context, which must belong to this call alone.
        """
        name = call.function.name
        attributes: Attributes = {
            names.OPERATION_NAME: "execute_tool",
            names.TOOL_NAME: name,
            names.TOOL_CALL_ID: call.id,
            names.TOOL_TYPE: "function",
        }
        span = self._start(f"execute_tool {name}", SpanKind.INTERNAL, without_none(attributes))
        # Not detached: the generator around the block may be closed in another context.
        context.attach(trace.set_span_in_context(span))
        try:
            yield
        except Exception as error:  # not a cancellation
            with _logged():
                span.set_attribute(names.ERROR_TYPE, type(error).__name__)
                description = str(error) if self._with_content else None
                span.set_status(Status(StatusCode.ERROR, description))
            raise
        finally:
            with _logged():
                span.end()

    def _start(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        try:
            return self._tracer.start_span(name, kind=kind, attributes=attributes)
        except Exception:
            _log_exception()
            # The parent of further spans is the current one, which this one does not end.
            return NonRecordingSpan(trace.get_current_span().get_span_context())


class _AnswerSpan:
    """The span of one answer.

    Args:
        span: The span, which has started.
        histograms: The histograms to which the answer adds.
        common: The attributes of the span and of all measurements.
        with_content: Whether the span contains messages and the texts of all errors.
    """

    def __init__(
        self, span: Span, histograms: Histograms, common: Attributes, with_content: bool
    ) -> None:
        self._span = span
        self._histograms = histograms
        self._common = common
        self._with_content = with_content
        self._requested_choices = 1
        self._process_id = os.getpid()

    def describe_request(self, call: Call) -> None:
        if not self._span.is_recording():
            return
        request = decode_request(call.body)
        attributes = request_attributes(request)
        self._requested_choices = attributes[names.REQUEST_CHOICE_COUNT] or 1
        attributes[names.CONVERSATION_ID] = call.conversation_id
        self._span.set_attributes(without_none(attributes))
        if self._with_content:
            self._span.set_attribute(names.INPUT_MESSAGES, input_messages(request.messages))

    def sending(self) -> AbstractContextManager[object]:
        """Makes this the current span within a block, in which a thread sends a request."""
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def end(self, outcome: Outcome, seconds: float, outputs: int) -> None:
        """Ends the span, and adds to the histograms; in the child of a fork, does neither."""
        if os.getpid() != self._process_id:
            return
        with _logged():
            try:
                self._describe_outcome(outcome)
            finally:
                self._span.end()
        with _logged():
            attributes = without_none({**self._common, names.ERROR_TYPE: error_type_of(outcome)})
            with_span = trace.set_span_in_context(self._span)
            self._histograms.record(outcome, seconds, outputs, attributes, with_span)

    def _describe_outcome(self, outcome: Outcome) -> None:
        if not self._span.is_recording():
            return
        attributes = outcome_attributes(outcome, self._requested_choices)
        self._span.set_attributes(without_none(attributes))
        if error_type_of(outcome) is not None:
            description = description_of(outcome.error, with_content=self._with_content)
            self._span.set_status(Status(StatusCode.ERROR, description))
        if self._with_content:
            self._span.set_attribute(names.OUTPUT_MESSAGES, output_messages(outcome))


@contextmanager
def _logged() -> Iterator[None]:
    """Logs an exception of the block, which must not end the answer."""
    try:
        yield
    except Exception:
        _log_exception()


def _log_exception() -> None:
    _log.exception("telemetry raised an exception, which the answer ignores")


def _check_type(name: str, value: object, expected: type) -> None:
    if value is not None and not isinstance(value, expected):
        raise TypeError(
            f"{name} must be an OpenTelemetry {expected.__name__}, got {type(value).__name__}"
        )
