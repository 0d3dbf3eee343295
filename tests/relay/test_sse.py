"""Server-Sent Events: what the bytes are, whatever comes, and however it ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest
import reactivex
from faces import BOUND, Face, eventually, run
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Subject
from reactivex import operators as ops
from reactivex.testing import ReactiveTest, TestScheduler
from runs import Recorded, completion

from rxmistral import (
    DroppedStreamError,
    IncompleteStreamError,
    MistralError,
    ReportedError,
    RequestError,
    ServerSentEvent,
    StatusError,
    StoppedError,
    Stream,
    StreamTimeoutError,
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


# --- what is sent ----------------------------------------------------------------


def test_these_are_the_bytes() -> None:
    assert list(server_sent_events(reactivex.of("Hel", "lo\n"))) == [
        b": heartbeat\n\n",
        b'id: 1\ndata: "Hel"\n\n',
        b'id: 2\ndata: "lo\\n"\n\n',
        b'event: end\nid: 2\nretry: 86400000\ndata: {"status":"completed"}\n\n',
    ]


@given(texts=st.lists(st.text()), seconds=st.none() | st.just(60.0))
def test_any_text_comes_through_and_each_chunk_is_whole_events(
    texts: list[str], seconds: float | None
) -> None:
    chunks = list(server_sent_events(reactivex.from_iterable(texts), heartbeat=seconds))
    assert items(decoded(chunks)) == [(str(number), text) for number, text in enumerate(texts, 1)]
    assert ending(decoded(chunks)) == {"status": "completed"}
    for chunk in chunks:
        assert chunk.endswith(b"\n\n")
        assert chunk.count(b"\n\n") == 1


def test_a_struct_is_an_object_and_a_completion_its_chunk() -> None:
    struct, event = ServerSentEvent(data="x"), completion("Hi", finish="stop")
    (_, one), (_, other) = items(relayed(reactivex.of(struct, event)))
    assert one["data"] == "x"
    assert other == msgspec.to_builtins(event.data)
    assert other["choices"][0]["delta"] == {"content": "Hi"}


def test_something_is_sent_before_anything_comes() -> None:
    never: Subject[str] = Subject()
    body = iter(server_sent_events(never, heartbeat=None))
    assert next(body) == HEARTBEAT


def test_the_headers_keep_caches_and_compressors_away_and_are_fit_for_wsgi() -> None:
    assert SSE_HEADERS["Content-Type"] == "text/event-stream"
    assert "no-transform" in SSE_HEADERS["Cache-Control"]
    assert "Connection" not in SSE_HEADERS  # hop by hop: PEP 3333 forbids it


# --- heartbeats ------------------------------------------------------------------


def sent(scheduler: TestScheduler, *messages: Any, heartbeat: float) -> list[Any]:
    """What is sent and when, of a source that is subscribed to at 200."""
    source = scheduler.create_cold_observable(*messages)
    stream = server_sent_events(source, heartbeat=heartbeat)
    return scheduler.start(lambda: stream).messages


def beats(messages: list[Any]) -> list[float]:
    return [each.time for each in messages if getattr(each.value, "value", None) == HEARTBEAT]


def test_a_silent_model_is_bridged_from_the_start() -> None:
    messages = sent(TestScheduler(), on_next(350, "Hi"), on_completed(360), heartbeat=100)
    assert beats(messages) == [200, 300, 400, 500]


def test_the_silence_is_measured_from_the_last_item() -> None:
    steady = [on_next(time, "x") for time in range(0, 300, 60)]
    messages = sent(TestScheduler(), *steady, on_completed(400), heartbeat=100)
    assert beats(messages) == [200, 540]


def test_no_heartbeat_follows_the_end() -> None:
    messages = sent(TestScheduler(), on_completed(50), heartbeat=100)
    assert beats(messages) == [200]
    assert messages[-1].value.kind == "C"


def test_a_heartbeat_never_comes_while_an_item_is_taken_and_none_is_lost() -> None:
    taking, overlaps, chunks = threading.Lock(), [], []
    ended = threading.Event()

    def take(chunk: bytes) -> None:
        if not taking.acquire(blocking=False):
            overlaps.append(chunk)
            return
        chunks.append(chunk)
        threading.Event().wait(0.0005)
        taking.release()

    source: Subject[int] = Subject()
    server_sent_events(source, heartbeat=0.001).subscribe(take, on_completed=ended.set)
    for number in range(200):
        source.on_next(number)
        if number % 3 == 0:
            threading.Event().wait(0.002)
    source.on_completed()
    assert ended.wait(BOUND)
    assert overlaps == []
    assert [item for _, item in items(decoded(chunks))] == list(range(200))
    assert chunks.count(HEARTBEAT) > 1


def test_on_an_event_loop_heartbeats_need_no_thread_and_end_with_the_reading() -> None:
    source: Subject[str] = Subject()

    async def main() -> None:
        before = threading.active_count()
        async with server_sent_events(source, heartbeat=0.001) as body:
            first = [await anext(aiter(body)) for _ in range(5)]
            assert threading.active_count() == before
            assert first == [HEARTBEAT] * 5
            await asyncio.to_thread(source.on_next, "Hi")  # from a thread of its own
            while await anext(aiter(body)) == HEARTBEAT:
                pass
        assert await asyncio.to_thread(eventually, lambda: not source.observers)
        await asyncio.sleep(0)
        assert not timers()

    def timers() -> list[Any]:
        loop: Any = asyncio.get_running_loop()
        return [each for each in loop._scheduled if not each.cancelled()]

    run(main())


def test_a_loop_that_is_closed_while_the_source_goes_on_is_no_error() -> None:
    source: Subject[str] = Subject()
    came: list[bytes] = []

    async def main() -> None:
        server_sent_events(source, heartbeat=60).subscribe(came.append)

    run(main())
    source.on_next("Hi")
    source.on_completed()
    assert ending(decoded(came)) == {"status": "completed"}


# --- how it ended ----------------------------------------------------------------


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
def test_an_error_of_the_model_is_told_and_not_raised(
    error: MistralError, status: str, read: Face
) -> None:
    source = Stream.of(reactivex.concat(reactivex.of("Hi"), reactivex.throw(error)))
    chunks = [chunk for chunk in read(server_sent_events(source)) if chunk is not None]
    end = ending(decoded(chunks))
    assert end["status"] == status
    assert end["error"] == type(error).__name__
    assert end["message"] == " ".join(str(error).split())
    assert items(decoded(chunks)) == [("1", "Hi")]


def test_a_fault_of_the_program_is_raised_and_its_text_is_for_nobody_else() -> None:
    source = reactivex.of("Hi").pipe(ops.map(lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        list(server_sent_events(source))
    came: list[bytes] = []
    server_sent_events(source).subscribe(came.append, lambda error: None)
    assert ending(decoded(came)) == {
        "status": "failed",
        "error": "ZeroDivisionError",
        "message": "the program that answers has a fault",
    }


def test_an_item_that_is_no_json_leaves_the_source_and_is_a_fault_of_the_program() -> None:
    source: Subject[object] = Subject()
    came: list[bytes] = []
    errors: list[Exception] = []
    server_sent_events(source).subscribe(came.append, errors.append)
    source.on_next("Hi")
    source.on_next(object())
    assert not source.observers
    assert isinstance(errors[0], TypeError)
    assert ending(decoded(came))["error"] == "TypeError"
    assert items(decoded(came)) == [("1", "Hi")]


def test_what_is_said_of_an_error_can_be_said_otherwise() -> None:
    source = reactivex.throw(DroppedStreamError("by 10.0.0.7"))
    events = relayed(source, describe=lambda error: f"Sorry: {type(error).__name__}")
    assert ending(events)["message"] == "Sorry: DroppedStreamError"


def test_who_cannot_say_it_ends_the_stream_all_the_same(read: Face) -> None:
    def describe(error: Exception) -> str:
        raise LookupError("no words")

    came = read(server_sent_events(reactivex.throw(StoppedError()), describe=describe))
    assert isinstance(came[-1], LookupError)


def test_leaving_leaves_the_source() -> None:
    source: Subject[str] = Subject()
    for _ in server_sent_events(source):
        break
    assert not source.observers


# --- going on --------------------------------------------------------------------


def recorded(count: int) -> Recorded:
    return Recorded(reactivex.range(1, count + 1))


def test_whoever_comes_back_gets_what_he_has_not_seen_once_and_in_order() -> None:
    run = recorded(20)
    for seen in range(21):
        events = relayed(run, last_event_id=str(seen) if seen else None)
        assert items(events) == [(str(number), number) for number in range(seen + 1, 21)]
        assert events[-1].id == "20"


def test_the_end_s_id_brings_the_end_again_and_nothing_else() -> None:
    run = recorded(3)
    end = relayed(run)[-1]
    assert relayed(run, last_event_id=end.id) == [end]


def test_a_run_of_nothing_has_an_end_with_an_id() -> None:
    (end,) = relayed(recorded(0))
    assert end.id == "0"
    assert relayed(recorded(0), last_event_id="0") == [end]


@pytest.mark.parametrize("header", ["", "x", "-1", "1.0", "1 ", "٣", "²", "0x1", "9" * 5000])
def test_what_is_no_id_of_ours_stands_for_the_start(header: str) -> None:
    assert len(items(relayed(recorded(3), last_event_id=header))) == 3


def test_a_number_beyond_the_last_item_stands_for_the_end() -> None:
    events = relayed(recorded(3), last_event_id="7")
    assert items(events) == []
    assert ending(events) == {"status": "completed"}


def test_a_run_that_cannot_be_read_again_is_not_resumed() -> None:
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
def test_bad_arguments_are_refused_at_the_call(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        server_sent_events(recorded(1), **arguments)


def test_a_source_that_is_none_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="expected a Stream or a Resumable, got list"):
        server_sent_events(["Hel", "lo"])  # type: ignore[arg-type]
