"""The span of an answer: its parent, its ending, and what it shows of the request and the answer."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any
from unittest.mock import Mock

import pytest
from faces import BOUND, Face, by_for, run
from opentelemetry import trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from reactivex.scheduler import VirtualTimeScheduler
from traces import MESSAGES, Traces, attributes, parent_id, span_id, traces

from rxmistral import (
    Conversation,
    EventStream,
    Mistral,
    Outcome,
    RequestError,
    Resume,
    Retry,
    Timeouts,
    fallback,
    hedge,
    text,
)
from rxmistral.telemetry import OpenTelemetry
from rxmistral.testing import Script, ScriptedServer, scripted_client, steps

__all__ = ["traces"]

WHOLE: Script = ["Hel", "lo", steps.finish(usage=(3, 2)), steps.done()]
ENDINGS: dict[str, tuple[Script, str | None]] = {
    "completed": (WHOLE, None),
    "refused": ([steps.status(429)], "429"),
    "timed_out": (["Hel", steps.hang()], "StreamTimeoutError"),
    "dropped": (["Hel", steps.drop()], "DroppedStreamError"),
    "truncated": (["Hel"], "IncompleteStreamError"),
    "reported": (["Hel", steps.error("busy")], "ReportedError"),
}


def ask(client: Mistral, **options: Any) -> EventStream:
    return client.chat.stream(model="m", messages=MESSAGES, **options)


# --- the ending ------------------------------------------------------------------


@pytest.mark.parametrize("status", ENDINGS)
def test_span_shows_how_its_answer_ended(status: str, traces: Traces, read: Face) -> None:
    script, error_type = ENDINGS[status]
    timeouts = Timeouts(gap=0.05) if status == "timed_out" else None
    with ScriptedServer(script) as server, traces.client(server, timeouts=timeouts) as client:
        read(ask(client).text())
    (span,) = traces.spans()
    shown = attributes(span)
    assert (span.name, span.kind) == ("chat m", SpanKind.CLIENT)
    assert (shown["rxmistral.outcome"], shown.get("error.type")) == (status, error_type)
    assert shown["gen_ai.response.finish_reasons"] == (("error",) if error_type else ("stop",))
    assert span.status.status_code is (StatusCode.ERROR if error_type else StatusCode.UNSET)
    assert not span.events


def leave_by_break(answer: EventStream) -> None:
    for _ in answer.text():
        break


def leave_by_block(answer: EventStream) -> None:
    with answer:
        next(iter(answer))


def leave_by_dispose(answer: EventStream) -> None:
    received = threading.Event()
    subscription = answer.subscribe(lambda _: received.set())
    assert received.wait(BOUND)
    subscription.dispose()
    subscription.dispose()


def leave_by_close(answer: EventStream) -> None:
    received = threading.Event()
    answer.subscribe(lambda _: received.set(), lambda _: None)
    assert received.wait(BOUND)
    answer.close()


def leave_by_collection(answer: EventStream) -> None:
    abandoned: list[Any] = [iter(answer)]
    next(abandoned[0])
    abandoned.append(abandoned)
    del abandoned
    gc.collect()


def leave_before_reading(answer: EventStream) -> None:
    assert answer.response.ok


def leave_by_task(answer: EventStream) -> None:
    async def cancel() -> None:
        received = asyncio.Event()

        async def read() -> None:
            async for _ in answer:
                received.set()

        task = asyncio.create_task(read())
        await received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel())


LEAVING = [
    leave_by_break,
    leave_by_block,
    leave_by_dispose,
    leave_by_close,
    leave_by_collection,
    leave_before_reading,
    leave_by_task,
]


@pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__)
def test_span_of_a_left_answer_is_not_an_error(
    leave: Callable[[EventStream], None], traces: Traces
) -> None:
    with (
        ScriptedServer(["Hel", steps.hang()]) as server,
        traces.client(server) as client,
    ):
        leave(ask(client))
        gc.collect()
        (span,) = traces.wait_for_spans(1)
    shown = attributes(span)
    assert span.status.status_code is StatusCode.UNSET
    assert (shown["rxmistral.outcome"], "error.type" in shown) == ("cancelled", False)
    assert shown["gen_ai.response.finish_reasons"] == ("error",)


def test_span_ends_when_no_answer_has_begun(traces: Traces) -> None:
    with ScriptedServer([steps.hang()]) as server, traces.client(server) as client:
        subscription = ask(client).subscribe()
        assert server.wait_for_requests(1)
        subscription.dispose()
        (span,) = traces.spans()
    assert attributes(span)["rxmistral.outcome"] == "cancelled"


def test_exception_of_a_callback_is_named_but_not_quoted(traces: Traces) -> None:
    def fail(event: object) -> None:
        raise ValueError(f"not expected: {event!r}")

    with ScriptedServer(WHOLE) as server, traces.client(server) as client:
        errors: SimpleQueue[Exception] = SimpleQueue()
        ask(client).subscribe(fail, errors.put)
        assert isinstance(errors.get(timeout=BOUND), ValueError)
    (span,) = traces.spans()
    assert attributes(span)["error.type"] == "ValueError"
    assert span.status.description is None


def test_span_ends_when_no_thread_can_be_started(
    traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ScriptedServer(WHOLE) as server, traces.client(server) as client:
        answer = ask(client)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            errors: list[Exception] = []
            answer.subscribe(None, errors.append)
    (span,) = traces.spans()
    assert isinstance(errors[0], RequestError)
    assert attributes(span)["rxmistral.outcome"] == "failed"


def test_finish_reason_of_each_choice_is_shown(traces: Traces) -> None:
    script: Script = [
        steps.text("a", choice=0),
        steps.finish("length", choice=0),
        steps.text("b", choice=1),
        steps.hang(),
    ]
    with ScriptedServer(script) as server, traces.client(server) as client:
        for event in ask(client, n=3):
            if event.data.choices[0].index == 1:
                break
    (span,) = traces.spans()
    assert attributes(span)["gen_ai.response.finish_reasons"] == ("length", "error", "error")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_child_of_a_fork_ends_no_span_of_its_parent(traces: Traces) -> None:
    with ScriptedServer(["Hel", steps.hang()]) as server, traces.client(server) as client:
        reader = iter(ask(client))
        next(reader)
        child = os.fork()
        if child == 0:
            reader.close()  # type: ignore[attr-defined]  # a generator or a loop
            os._exit(len(traces.spans()))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        del reader
        assert len(traces.wait_for_spans(1)) == 1


# --- the parent ------------------------------------------------------------------


def test_parent_is_the_current_span_of_the_subscriber(traces: Traces, read: Face) -> None:
    with ScriptedServer(lambda _: WHOLE) as server, traces.client(server) as client:
        answer = ask(client)  # created outside of the span
        with traces.tracer.start_as_current_span("parent") as parent:
            read(answer.text())
        read(answer.text())
    below, alone = traces.spans()
    assert (parent_id(below), parent_id(alone)) == (span_id(parent), None)


def test_parents_of_concurrent_tasks_are_their_own(traces: Traces) -> None:
    async def read(client: Mistral, number: int) -> tuple[int, str]:
        with traces.tracer.start_as_current_span(f"parent {number}") as parent:
            async for _ in ask(client, metadata={"n": number}).text():
                assert trace.get_current_span() is parent
            return span_id(parent), f"{number}"

    async def read_all(client: Mistral) -> set[int]:
        return {parent for parent, _ in await asyncio.gather(*(read(client, n) for n in range(5)))}

    with ScriptedServer(lambda _: WHOLE) as server, traces.client(server) as client:
        parents = run(read_all(client))
    assert {parent_id(span) for span in traces.spans()} == parents


def test_parents_of_concurrent_threads_are_their_own(traces: Traces) -> None:
    parents: set[int] = set()

    def read() -> None:
        with traces.tracer.start_as_current_span("parent") as parent:
            parents.add(span_id(parent))
            by_for(ask(client))

    with ScriptedServer(lambda _: WHOLE) as server, traces.client(server) as client:
        threads = [threading.Thread(target=read) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
    assert {parent_id(span) for span in traces.spans()} == parents


def test_callbacks_see_the_span_of_the_subscriber(traces: Traces) -> None:
    seen: list[Any] = []
    done = threading.Event()

    def note(*_: object) -> None:
        seen.append(trace.get_current_span())

    def note_outcome(_: Outcome) -> None:
        note()

    with (
        ScriptedServer(WHOLE) as server,
        traces.client(server, on_outcome=note_outcome) as client,
        traces.tracer.start_as_current_span("parent") as parent,
    ):
        ask(client).subscribe(note, on_completed=lambda: (note(), done.set()))
        assert done.wait(BOUND)
    assert len(seen) >= 4
    assert {*seen} == {parent}


@pytest.fixture
def instrumented(traces: Traces) -> Iterator[None]:
    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=traces.tracer_provider)
    yield
    instrumentor.uninstrument()


@pytest.mark.usefixtures("instrumented")
def test_requests_of_an_answer_are_below_one_span(traces: Traces, read: Face) -> None:
    scripts: list[Script] = [[steps.status(503)], ["Hel", steps.drop()], ["lo", steps.done()]]
    with (
        ScriptedServer(*scripts) as server,
        traces.client(server, retry=Retry(initial=0.001), resume=Resume()) as client,
        traces.tracer.start_as_current_span("parent") as parent,
    ):
        read(ask(client).text())
        headers = [request.headers["traceparent"] for request in server.requests]
    (span,) = traces.spans()
    posts = traces.spans("POST")
    assert [parent_id(post) for post in posts] == [span_id(span)] * 3
    assert parent_id(span) == span_id(parent)
    assert [header.split("-")[2] for header in headers] == [f"{span_id(p):016x}" for p in posts]
    shown = attributes(span)
    assert (shown["rxmistral.requests"], shown["rxmistral.resumed"]) == (3, 1)
    assert shown["rxmistral.longest_gap"] > 0


@pytest.mark.usefixtures("instrumented")
def test_request_that_fails_is_below_the_span_and_leaves_no_context(traces: Traces) -> None:
    seen: list[Any] = []
    with (
        ScriptedServer([steps.drop()]) as server,
        traces.client(server) as client,
        traces.tracer.start_as_current_span("parent") as parent,
    ):
        ended = threading.Event()
        ask(client).subscribe(None, lambda _: (seen.append(trace.get_current_span()), ended.set()))
        assert ended.wait(BOUND)
    (span,) = traces.spans()
    assert parent_id(traces.spans("POST")[0]) == span_id(span)
    assert seen == [parent]


def test_each_stream_of_a_hedge_has_a_span(traces: Traces) -> None:
    with (
        ScriptedServer(lambda r: [steps.hang()] if r.json["model"] == "slow" else WHOLE) as server,
        traces.client(server) as client,
        traces.tracer.start_as_current_span("parent") as parent,
    ):
        answers = [client.chat.stream(model=m, messages=MESSAGES) for m in ("slow", "quick")]
        assert hedge(*answers, delay=0.01).pipe(text()).join().run() == "Hello"
    shown = {span.name: attributes(span)["rxmistral.outcome"] for span in traces.spans()}
    assert shown == {"chat slow": "cancelled", "chat quick": "completed"}
    assert {parent_id(span) for span in traces.spans()} == {span_id(parent)}


def test_each_stream_of_a_fallback_has_a_span(traces: Traces) -> None:
    with (
        ScriptedServer([steps.status(503)], ["Hel", steps.drop()], ["lo", steps.done()]) as server,
        traces.client(server) as client,
    ):
        answers = [client.chat.stream(model=m, messages=MESSAGES) for m in "abc"]
        assert fallback(*answers, resume=True).pipe(text()).join().run() == "Hello"
    shown = [(span.name, attributes(span)["rxmistral.outcome"]) for span in traces.spans()]
    assert shown == [("chat a", "refused"), ("chat b", "dropped"), ("chat c", "completed")]


def test_readers_of_one_block_share_a_span(traces: Traces) -> None:
    with (
        ScriptedServer(WHOLE) as server,
        traces.client(server) as client,
        ask(client) as answer,
    ):
        assert answer.response.ok
        assert answer.text().join().run() == "Hello"
        assert answer.text().join().run() == "Hello"
    assert len(traces.spans()) == 1


# --- the attributes --------------------------------------------------------------


def test_span_has_the_attributes_of_its_request(traces: Traces) -> None:
    with ScriptedServer(WHOLE) as server, traces.client(server) as client:
        port = server.port
        ask(
            client,
            max_tokens=9,
            temperature=1,
            top_p=0.5,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            random_seed=7,
            stop="end",
            n=1,
            response_format={"type": "json_object"},
        ).run()
    (span,) = traces.spans()
    shown = attributes(span).items()
    assert (
        shown
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "mistral_ai",
            "gen_ai.request.model": "m",
            "server.address": "127.0.0.1",
            "server.port": port,
            "gen_ai.request.stream": True,
            "gen_ai.request.max_tokens": 9,
            "gen_ai.request.temperature": 1.0,
            "gen_ai.request.top_p": 0.5,
            "gen_ai.request.frequency_penalty": 0.1,
            "gen_ai.request.presence_penalty": 0.2,
            "gen_ai.request.seed": 7,
            "gen_ai.request.stop_sequences": ("end",),
            "gen_ai.output.type": "json",
        }.items()
    )
    assert "gen_ai.request.choice.count" not in dict(shown)


def test_span_has_the_attributes_of_its_answer(traces: Traces) -> None:
    usage = steps.usage(
        9,
        4,
        prompt_tokens_details={"cached_tokens": 8},
        completion_tokens_details={"reasoning_tokens": 3},
    )
    script: Script = [steps.role(), steps.thinking("Hm"), "Hi", steps.finish(), usage, steps.done()]
    with ScriptedServer(script, model="m-2512") as server, traces.client(server) as client:
        outcome = (answer := ask(client)).run() and answer.outcome
    assert outcome is not None
    shown = attributes(traces.spans()[0])
    assert (
        shown.items()
        >= {
            "gen_ai.response.id": outcome.response.id,
            "gen_ai.response.model": "m-2512",
            "gen_ai.response.time_to_first_chunk": outcome.seconds_to_first_token,
            "gen_ai.usage.input_tokens": 9,
            "gen_ai.usage.output_tokens": 4,
            "gen_ai.usage.cache_read.input_tokens": 8,
            "gen_ai.usage.reasoning.output_tokens": 3,
            "rxmistral.requests": 1,
            "rxmistral.resumed": 0,
        }.items()
    )


def test_span_of_a_conversation_has_its_id(traces: Traces) -> None:
    with ScriptedServer(lambda _: WHOLE) as server, traces.client(server) as client:
        Conversation(client, model="m", id="c-1").ask("Hi").run()
        ask(client).run()
    ids = [attributes(span).get("gen_ai.conversation.id") for span in traces.spans()]
    assert ids == ["c-1", None]


def test_field_of_another_type_is_left_out(traces: Traces) -> None:
    with ScriptedServer(WHOLE) as server, traces.client(server) as client:
        ask(client, extra_body={"temperature": "hot", "n": None, "stop": 3, "max_tokens": 5}).run()
    shown = attributes(traces.spans()[0])
    assert shown["gen_ai.request.max_tokens"] == 5
    assert not {"gen_ai.request.temperature", "gen_ai.request.stop_sequences"} & shown.keys()


def test_times_are_those_of_the_scheduler(traces: Traces) -> None:
    scheduler = VirtualTimeScheduler()
    client = scripted_client(
        [steps.hang()],
        [steps.wait(5), "Hel", steps.wait(3), "lo", steps.finish(), steps.done()],
        scheduler=scheduler,
        telemetry=traces.telemetry(),
        timeouts=Timeouts(first=60),
        retry=Retry(initial=30, maximum=30, jitter=0),
    )
    ask(client).subscribe()
    scheduler.start()
    (span,) = traces.spans()
    assert attributes(span)["gen_ai.response.time_to_first_chunk"] == 95.0
    assert attributes(span)["rxmistral.longest_gap"] == 3.0
    sums = {name: points[0].sum for name, points in traces.measurements().items()}
    assert sums["gen_ai.client.operation.duration"] == 98.0
    assert sums["gen_ai.client.operation.time_per_output_chunk"] == 3.0


# --- cost, and failures of the telemetry -----------------------------------------


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
@pytest.mark.parametrize("script", [WHOLE, ENDINGS["dropped"][0]], ids=["whole", "dropped"])
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


def test_exception_of_an_exporter_hurts_no_answer(traces: Traces, read: Face) -> None:
    logging.getLogger("opentelemetry.sdk").disabled = True  # logs it itself
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


def test_sampler_receives_the_first_attributes(traces: Traces) -> None:
    sampler = Mock(wraps=traces.tracer_provider.sampler)
    provider = TracerProvider(sampler=sampler)
    with (
        ScriptedServer(WHOLE) as server,
        Mistral(server_url=server.url, telemetry=OpenTelemetry(provider)) as client,
    ):
        ask(client).run()
    given = json.dumps([str(each) for each in sampler.should_sample.call_args.args])
    options = json.dumps(sampler.should_sample.call_args.kwargs, default=str)
    for name in (
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "server.address",
        "server.port",
    ):
        assert name in given + options
