"""The parents of spans, and the spans below them, under threads and tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from faces import BOUND, Face, by_for, run
from opentelemetry import trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from traces import MESSAGES, WHOLE, Traces, ask, attributes, parent_id, span_id

from rxmistral import Mistral, Outcome, Resume, Retry, fallback, hedge, text
from rxmistral.testing import Script, ScriptedServer, steps


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
def test_failed_request_leaves_no_context(traces: Traces) -> None:
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
