"""Server-Sent Events: the bytes of items and endings, heartbeats, and resumption."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import reactivex
from completion_builders import completion
from faces import BOUND, Face, eventually, run
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Subject
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import NewThreadScheduler, TimeoutScheduler
from reactivex.testing import ReactiveTest, TestScheduler

from rxmistral import (
    CompletionEvent,
    DroppedStreamError,
    IncompleteStreamError,
    MistralError,
    ReportedError,
    RequestError,
    ServerSentEvent,
    SharedStream,
    StatusError,
    StoppedError,
    Stream,
    StreamTimeoutError,
    UsageInfo,
    UsageReported,
)
from rxmistral.relay import SSE_HEADERS, server_sent_events
from rxmistral.relay.heartbeats import HEARTBEAT
from rxmistral.wire import decode_events

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)


def decoded(chunks: list[bytes]) -> list[ServerSentEvent]:
    return list(decode_events(chunks))


def relayed(source: Any, **arguments: Any) -> list[ServerSentEvent]:
    return decoded(list(server_sent_events(source, **arguments)))


def items(events: list[ServerSentEvent]) -> list[tuple[str | None, Any]]:
    return [(each.id, msgspec.json.decode(each.data)) for each in events if each.event != "end"]


def ending(events: list[ServerSentEvent]) -> dict[str, Any]:
    (end,) = (each for each in events if each.event == "end")
    assert end is events[-1]
    return msgspec.json.decode(end.data)


# --- items -----------------------------------------------------------------------


def test_body_has_exactly_these_bytes() -> None:
    assert list(server_sent_events(reactivex.of("Hel", "lo\n"))) == [
        b": heartbeat\n\n",
        b'id: 1\ndata: "Hel"\n\n',
        b'id: 2\ndata: "lo\\n"\n\n',
        b'event: end\nid: 2\nretry: 86400000\ndata: {"status":"completed"}\n\n',
    ]


@given(texts=st.lists(st.text()), seconds=st.none() | st.just(60.0))
def test_any_text_survives_and_each_chunk_is_one_event(
    texts: list[str], seconds: float | None
) -> None:
    chunks = list(server_sent_events(reactivex.from_iterable(texts), heartbeat=seconds))
    assert items(decoded(chunks)) == [(str(number), text) for number, text in enumerate(texts, 1)]
    assert ending(decoded(chunks)) == {"status": "completed"}
    for chunk in chunks:
        assert chunk.endswith(b"\n\n")
        assert chunk.count(b"\n\n") == 1


def test_struct_is_an_object_and_completion_its_chunk() -> None:
    struct, event = ServerSentEvent(data="x"), completion("Hi", finish="stop")
    (_, one), (_, other) = items(relayed(reactivex.of(struct, event)))
    assert one["data"] == "x"
    assert other == msgspec.to_builtins(event.data)
    assert other["choices"][0]["delta"] == {"content": "Hi"}


def test_usage_has_its_unknown_keys_as_the_service_sent_them() -> None:
    sent = {"cached_tokens": 2, "total_tokens": 3}
    usage = UsageInfo(total_tokens=3, additional_properties={"cached_tokens": 2})
    event = CompletionEvent(data=msgspec.structs.replace(completion("Hi").data, usage=usage))
    source = reactivex.of(event, UsageReported(usage), usage)
    (_, chunk), (_, part), (_, alone) = items(relayed(source))
    assert chunk == msgspec.to_builtins(completion("Hi").data) | {"usage": sent}
    assert part == {"type": "usage_reported", "usage": sent}
    assert alone == sent


def test_heartbeat_is_sent_before_the_first_item() -> None:
    never: Subject[str] = Subject()
    body = iter(server_sent_events(never, heartbeat=None))
    assert next(body) == HEARTBEAT


def test_headers_prevent_buffering_and_are_valid_in_wsgi() -> None:
    assert SSE_HEADERS["Content-Type"] == "text/event-stream"
    assert "no-transform" in SSE_HEADERS["Cache-Control"]
    assert "Connection" not in SSE_HEADERS  # hop by hop: PEP 3333 forbids it


# --- heartbeats ------------------------------------------------------------------


def sent(scheduler: TestScheduler, *messages: Any, heartbeat: float) -> list[Any]:
    """Returns what is sent and when, of a source that is subscribed to at 200."""
    source = scheduler.create_cold_observable(*messages)
    stream = server_sent_events(source, heartbeat=heartbeat)
    return scheduler.start(lambda: stream).messages


def beats(messages: list[Any]) -> list[float]:
    return [each.time for each in messages if getattr(each.value, "value", None) == HEARTBEAT]


def test_heartbeats_fill_silence_from_the_start() -> None:
    messages = sent(TestScheduler(), on_next(350, "Hi"), on_completed(360), heartbeat=100)
    assert beats(messages) == [200, 300, 400, 500]


def test_silence_is_measured_from_the_last_item() -> None:
    steady = [on_next(time, "x") for time in range(0, 300, 60)]
    messages = sent(TestScheduler(), *steady, on_completed(400), heartbeat=100)
    assert beats(messages) == [200, 540]


def test_no_heartbeat_follows_the_end() -> None:
    messages = sent(TestScheduler(), on_completed(50), heartbeat=100)
    assert beats(messages) == [200]
    assert messages[-1].value.kind == "C"


def test_heartbeats_and_items_are_serialized_and_none_is_lost() -> None:
    receiving, overlaps, chunks = threading.Lock(), [], []
    ended = threading.Event()

    def receive(chunk: bytes) -> None:
        if not receiving.acquire(blocking=False):
            overlaps.append(chunk)
            return
        chunks.append(chunk)
        threading.Event().wait(0.0005)
        receiving.release()

    source: Subject[int] = Subject()
    server_sent_events(source, heartbeat=0.001).subscribe(receive, on_completed=ended.set)
    for number in range(200):
        source.on_next(number)
        if number % 3 == 0:
            threading.Event().wait(0.002)
    source.on_completed()
    assert ended.wait(BOUND)
    assert overlaps == []
    assert [item for _, item in items(decoded(chunks))] == list(range(200))
    assert chunks.count(HEARTBEAT) > 1


def test_heartbeats_need_no_thread_on_an_event_loop() -> None:
    source: Subject[str] = Subject()

    async def main() -> None:
        before = set(threading.enumerate())
        body = aiter(server_sent_events(source, heartbeat=0.001))
        assert [await anext(body) for _ in range(5)] == [HEARTBEAT] * 5
        assert set(threading.enumerate()) <= before
        await asyncio.to_thread(source.on_next, "Hi")  # from another thread
        while await anext(body) == HEARTBEAT:
            pass

    run(main())


def test_disposed_response_is_not_referenced_by_its_timer() -> None:
    source: Subject[str] = Subject()
    references: list[weakref.ref[Any]] = []

    async def main() -> None:
        def receive(chunk: bytes) -> None: ...

        references.append(weakref.ref(receive))
        subscription = server_sent_events(source, heartbeat=3600).subscribe(receive)
        await asyncio.sleep(0)  # the timer is set
        subscription.dispose()
        del receive, subscription
        await asyncio.sleep(0)
        gc.collect()
        assert references[0]() is None

    run(main())


class HastyScheduler(NewThreadScheduler):
    """A scheduler whose first timer expires before the call that sets it has returned."""

    has_expired = False

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
        if self.has_expired:
            return TimeoutScheduler.singleton().schedule_relative(duetime, action, state)
        self.has_expired = True
        timer = threading.Thread(target=action, args=(self, state))
        timer.start()
        timer.join()
        return Disposable()


def test_heartbeats_continue_when_a_timer_expires_while_set() -> None:
    source: Subject[str] = Subject()
    beats = threading.Semaphore(0)
    body = server_sent_events(source, heartbeat=0.01, scheduler=HastyScheduler())
    with body.subscribe(lambda chunk: beats.release()):
        for _ in range(3):
            assert beats.acquire(timeout=BOUND)


def test_timer_is_disposed_when_the_observer_raises_at_once() -> None:
    before = set(threading.enumerate())

    def receive(chunk: bytes) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        server_sent_events(reactivex.of("Hi"), heartbeat=3600).subscribe(receive)
    assert eventually(lambda: set(threading.enumerate()) <= before)


def test_closed_event_loop_does_not_break_a_running_source() -> None:
    source: Subject[str] = Subject()
    received: list[bytes] = []

    async def main() -> None:
        server_sent_events(source, heartbeat=60).subscribe(received.append)

    run(main())
    source.on_next("Hi")
    source.on_completed()
    assert ending(decoded(received)) == {"status": "completed"}


# --- endings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StatusError(429, {}, '{"message": "slow down"}'), "refused"),
        (RequestError("nobody listens"), "failed"),
        (StreamTimeoutError("gap", 1), "timed_out"),
        (DroppedStreamError("reset"), "dropped"),
        (IncompleteStreamError(), "truncated"),
        (ReportedError("overloaded\nbadly"), "reported"),
        (StoppedError(), "cancelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_error_of_the_model_is_sent_and_not_raised(
    error: MistralError, status: str, read: Face
) -> None:
    source = Stream.of(reactivex.concat(reactivex.of("Hi"), reactivex.throw(error)))
    chunks = [chunk for chunk in read(server_sent_events(source)) if chunk is not None]
    end = ending(decoded(chunks))
    assert end["status"] == status
    assert end["error"] == type(error).__name__
    assert end["message"] == " ".join(str(error).split())
    assert items(decoded(chunks)) == [("1", "Hi")]


def test_fault_of_the_program_is_raised_and_its_text_not_sent() -> None:
    source = reactivex.of("Hi").pipe(ops.map(lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        list(server_sent_events(source))
    received: list[bytes] = []
    server_sent_events(source).subscribe(received.append, lambda error: None)
    assert ending(decoded(received)) == {
        "status": "failed",
        "error": "ZeroDivisionError",
        "message": "internal error",
    }


def test_item_that_is_not_json_disposes_the_source_and_raises() -> None:
    source: Subject[object] = Subject()
    received: list[bytes] = []
    errors: list[Exception] = []
    server_sent_events(source).subscribe(received.append, errors.append)
    source.on_next("Hi")
    source.on_next(object())
    assert not source.observers
    assert isinstance(errors[0], TypeError)
    assert ending(decoded(received))["error"] == "TypeError"
    assert items(decoded(received)) == [("1", "Hi")]


def test_describe_replaces_the_message_of_an_error() -> None:
    source = reactivex.throw(DroppedStreamError("by 10.0.0.7"))
    events = relayed(source, describe=lambda error: f"Sorry: {type(error).__name__}")
    assert ending(events)["message"] == "Sorry: DroppedStreamError"


def test_stream_ends_when_describe_raises() -> None:
    def describe(error: Exception) -> str:
        raise LookupError("no words")

    source: Subject[str] = Subject()
    errors: list[Exception] = []
    server_sent_events(source, describe=describe).subscribe(on_error=errors.append)
    source.on_error(StoppedError())
    assert [str(error) for error in errors] == ["no words"]


def test_source_is_disposed_when_the_reader_leaves() -> None:
    source: Subject[str] = Subject()
    for _ in server_sent_events(source):
        break
    assert not source.observers


# --- resumption ------------------------------------------------------------------


def shared_run(count: int) -> SharedStream[int]:
    return Stream.of(reactivex.range(1, count + 1)).shared()


def test_resumed_client_gets_each_later_item_once_and_in_order() -> None:
    run = shared_run(20)
    for seen in range(21):
        events = relayed(run, last_event_id=str(seen) if seen else None)
        assert items(events) == [(str(number), number) for number in range(seen + 1, 21)]
        assert events[-1].id == "20"


def test_resuming_at_the_ending_sends_only_the_ending() -> None:
    run = shared_run(3)
    end = relayed(run)[-1]
    assert relayed(run, last_event_id=end.id) == [end]


def test_ending_of_an_empty_run_has_an_id() -> None:
    (end,) = relayed(shared_run(0))
    assert end.id == "0"
    assert relayed(shared_run(0), last_event_id="0") == [end]


@pytest.mark.parametrize("header", ["", "x", "-1", "1.0", "1 ", "٣", "²", "0x1", "9" * 5000])
def test_invalid_last_event_id_stands_for_the_start(header: str) -> None:
    assert len(items(relayed(shared_run(3), last_event_id=header))) == 3


def test_any_object_with_entries_is_resumable() -> None:
    run = SimpleNamespace(entries=shared_run(3).entries)
    assert items(relayed(run, last_event_id="2")) == [("3", 3)]


def test_id_beyond_the_last_item_stands_for_the_end() -> None:
    events = relayed(shared_run(3), last_event_id="7")
    assert items(events) == []
    assert ending(events) == {"status": "completed"}


def test_last_event_id_is_refused_when_source_is_not_resumable() -> None:
    with pytest.raises(ValueError, match="shared or read from a log"):
        server_sent_events(reactivex.of("x"), last_event_id="1")
    assert len(items(relayed(reactivex.of("x"), last_event_id=""))) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"last_event_id": 1}, TypeError),
        ({"heartbeat": 0}, ValueError),
        ({"heartbeat": "15"}, TypeError),
        ({"describe": "text"}, TypeError),
    ],
)
def test_invalid_arguments_are_refused_at_the_call(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        server_sent_events(shared_run(1), **arguments)


def test_source_that_is_not_a_stream_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="expected a Stream or a Resumable, got list"):
        server_sent_events(["Hel", "lo"])  # type: ignore[arg-type]
