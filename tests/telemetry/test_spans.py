"""The span of an answer: its ending, and what it shows of the request and the answer."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest
from faces import BOUND, Face, run
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode
from reactivex.scheduler import VirtualTimeScheduler
from traces import WHOLE, Traces, ask, attributes

from rxmistral import Conversation, EventStream, RequestError, Retry, Timeouts
from rxmistral.telemetry import OpenTelemetry
from rxmistral.testing import Script, ScriptedServer, scripted_client, steps

ENDINGS: dict[str, tuple[Script, str | None]] = {
    "completed": (WHOLE, None),
    "refused": ([steps.status(429)], "429"),
    "timed_out": (["Hel", steps.hang()], "StreamTimeoutError"),
    "dropped": (["Hel", steps.drop()], "DroppedStreamError"),
    "truncated": (["Hel"], "IncompleteStreamError"),
    "reported": (["Hel", steps.error("busy")], "ReportedError"),
}


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
        received = threading.Event()
        subscription = ask(client).subscribe(lambda _: received.set())
        assert received.wait(BOUND)
        child = os.fork()
        if child == 0:
            subscription.dispose()
            os._exit(len(traces.spans()))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        subscription.dispose()
    assert len(traces.spans()) == 1


# --- the attributes --------------------------------------------------------------


class NotingSampler(Sampler):
    """A sampler that samples everything, and records the attributes that it receives."""

    attributes: Any = None

    def should_sample(self, *args: Any, **options: Any) -> SamplingResult:
        result = ALWAYS_ON.should_sample(*args, **options)
        self.attributes = result.attributes
        return result

    def get_description(self) -> str:
        return "noting"


def test_span_starts_with_the_attributes_for_sampling() -> None:
    sampler = NotingSampler()
    client = scripted_client(WHOLE, telemetry=OpenTelemetry(TracerProvider(sampler)))
    ask(client).run()
    assert dict(sampler.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": "m",
        "server.address": "localhost",
        "server.port": 80,
    }


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
