"""Answers without a server, on every face and in virtual time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from faces import BOUND, Face
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import VirtualTimeScheduler
from reactivex.testing import ReactiveTest, TestScheduler

from rxmistral import (
    DroppedStreamError,
    IncompleteStreamError,
    ProtocolError,
    RateLimitError,
    ReportedError,
    RequestError,
    StatusError,
    Stream,
    finish_reason,
    text,
    thinking,
    to_response,
    tool_calls,
    usage,
)
from rxmistral.testing import (
    Step,
    abort,
    answer,
    completion,
    done,
    drop,
    error,
    finish,
    hang,
    steps,
    wait,
)

on_next, on_completed = ReactiveTest.on_next, ReactiveTest.on_completed


def played(stream: Stream[Any], scheduler: VirtualTimeScheduler | None = None) -> list[Any]:
    """Plays a stream in virtual time; returns its items, and then its error if it fails."""
    scheduler = scheduler or VirtualTimeScheduler()
    received: list[Any] = []
    stream.subscribe(
        received.append, received.append, lambda: received.append("end"), scheduler=scheduler
    )
    scheduler.start()
    return received


def test_answer_is_read_on_every_face(read: Face) -> None:
    assert "".join(read(answer("Hel", "lo", finish()).pipe(text()))) in ("Hello", "lo")


def test_waits_are_timers_of_the_subscriptions_scheduler() -> None:
    scheduler = TestScheduler()
    stream = answer("Hel", wait(2), "lo", wait(3600), finish())
    results = scheduler.start(lambda: stream.pipe(text()), disposed=10_000)
    assert results.messages == [on_next(200, "Hel"), on_next(202, "lo"), on_completed(3802)]


def test_answer_is_cold() -> None:
    stream = answer("Hi", finish()).pipe(text())
    assert played(stream) == played(stream) == ["Hi", "end"]


def test_nothing_is_emitted_before_subscribe_returns() -> None:
    scheduler = VirtualTimeScheduler()
    received: list[str] = []
    answer("Hi", finish()).pipe(text()).subscribe(received.append, scheduler=scheduler)
    assert received == []
    scheduler.start()
    assert received == ["Hi"]


def test_disposed_answer_emits_nothing_more() -> None:
    scheduler = VirtualTimeScheduler()
    received: list[str] = []
    stream = answer("a", wait(1), "b", "c", wait(1), "d", finish()).pipe(text())
    subscription = stream.subscribe(
        lambda token: (received.append(token), token == "b" and subscription.dispose()),
        lambda raised: received.append(str(raised)),
        lambda: received.append("end"),
        scheduler=scheduler,
    )
    scheduler.start()
    assert received == ["a", "b"]


ENDINGS: dict[str, tuple[tuple[Step | str, ...], type[Exception] | None]] = {
    "finish": (("a", finish("length")), None),
    "done": (("a", done()), None),
    "truncated": (("a",), IncompleteStreamError),
    "drop": (("a", drop()), DroppedStreamError),
    "abort": (("a", abort()), DroppedStreamError),
    "abort after finish": (("a", finish(), abort()), None),
    "drop at once": ((drop(),), RequestError),
    "abort before the headers": ((wait(1), abort()), RequestError),
    "drop after the headers": ((steps.headers(), drop()), DroppedStreamError),
    "error": (("a", error("overloaded")), ReportedError),
    "status": ((steps.status(429, body={"message": "slow"}),), RateLimitError),
    "refusal that breaks": ((steps.status(500), steps.raw(b"busy"), drop()), StatusError),
    "page": ((steps.status(200, body="<html>"),), ProtocolError),
    "page with the label of a stream": ((steps.raw(b"<html", b">"),), ProtocolError),
    "blank lines first": ((steps.raw(b"\r", b"\n\n"), "a", finish()), None),
    "nothing": ((), IncompleteStreamError),
    "end": (("a", finish(), steps.end(), wait(9), drop()), None),
}


@pytest.mark.parametrize(("script", "kind"), ENDINGS.values(), ids=ENDINGS.keys())
def test_answer_ends_as_the_server_does(
    script: tuple[Step | str, ...], kind: type[Exception] | None
) -> None:
    *tokens, ending = played(answer(*script).pipe(text()))
    assert tokens == [each for each in script if isinstance(each, str)]
    assert ending == "end" if kind is None else isinstance(ending, kind)


def test_error_has_the_partial_answer() -> None:
    *_, raised = played(answer("Hel", "lo", drop()))
    assert raised.partial.choices[0].message.content == "Hello"


def test_refusal_has_the_headers_of_the_script() -> None:
    script = steps.status(429, body={"message": "slow"}, headers={"Retry-After": "30"})
    (raised,) = played(answer(script))
    assert (raised.retry_after, raised.message) == (30, "slow")


def test_silence_is_timed_out_in_virtual_time() -> None:
    scheduler = TestScheduler()
    stream = answer("a", hang()).pipe(text(), ops.timeout(60))
    results = scheduler.start(lambda: stream, disposed=10_000)
    assert [message.time for message in results.messages] == [200, 260]


def test_answer_takes_every_step_of_a_chunk() -> None:
    script = (
        steps.role(),
        steps.thinking("Hm."),
        "Hi",
        steps.tool_call(id="c1", name="weather", arguments="{}"),
        finish("tool_calls", usage=(3, 2)),
        done(),
    )
    stream = answer(*script)
    assert played(stream.pipe(thinking()))[0] == "Hm."
    assert played(stream.pipe(tool_calls()))[0].function.name == "weather"
    assert played(stream.pipe(finish_reason()))[0] == "tool_calls"
    assert played(stream.pipe(usage()))[0].completion_tokens == 2
    assert played(stream.pipe(to_response()))[0].model == "scripted"


@pytest.mark.parametrize(
    ("script", "kind"),
    [((5,), TypeError), ((drop(), "a"), ValueError), (("a", steps.header("a", "b")), ValueError)],
)
def test_wrong_script_raises_at_the_call(script: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        answer(*script)


@pytest.mark.parametrize("scheduler", [None, VirtualTimeScheduler()], ids=["real", "virtual"])
def test_exception_of_a_callback_is_the_error(scheduler: VirtualTimeScheduler | None) -> None:
    ended = threading.Event()
    received: list[Any] = []

    def fail(token: str) -> None:
        raise ZeroDivisionError(token)

    def note(raised: Exception) -> None:
        received.append(raised)
        ended.set()

    answer("a", "b", finish()).pipe(text()).subscribe(fail, note, scheduler=scheduler)
    if scheduler is not None:
        scheduler.start()
    assert ended.wait(BOUND)
    assert [repr(raised) for raised in received] == ["ZeroDivisionError('a')"]


def test_callbacks_run_in_the_context_of_the_subscriber() -> None:
    variable = ContextVar("variable", default="none")
    received: list[str] = []
    ended = threading.Event()
    variable.set("subscriber")
    stream = answer("a", wait(0.001), "b", finish()).pipe(text())
    stream.subscribe(lambda _: received.append(variable.get()), on_completed=ended.set)
    assert ended.wait(BOUND)
    assert received == ["subscriber"] * 2


@pytest.mark.parametrize(
    ("reading", "printed"),
    [
        ("stream.subscribe(print)", "a\nb\n"),
        ("print(next(iter(stream)))", "a\n"),
        ("stream.take(1).subscribe(print)", "a\n"),
        ("answer(wait(300), 'a').subscribe(print).dispose()", ""),
    ],
)
def test_program_ends_with_the_answer_it_subscribes_to(reading: str, printed: str) -> None:
    code = f"""
from rxmistral import text
from rxmistral.testing import answer, finish, wait
stream = answer("a", wait(0.05), "b", finish(), wait(0.05)).pipe(text())
{reading}
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)


class Hasty(VirtualTimeScheduler):
    """Runs the first action on another thread before `schedule_relative` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.is_first = True

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
        if not self.is_first:
            return super().schedule_relative(duetime, action, state)
        self.is_first = False
        thread = threading.Thread(target=action, args=(self, state))
        thread.start()
        thread.join()
        return Disposable()


def test_timer_that_fires_at_once_keeps_the_next_one() -> None:
    assert played(answer("a", wait(1), "b", finish()).pipe(text()), Hasty()) == ["a", "b", "end"]


# --- completion ---


def test_completion_has_the_text() -> None:
    event = completion("Hel")
    assert event.data.choices[0].delta.content == "Hel"
    assert event.data.choices[0].finish_reason is None
    assert event == played(answer("Hel", finish()))[0]


def test_completion_accepts_a_step() -> None:
    assert completion(finish("length")).data.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    "make", [done, lambda: steps.text("a", "b"), lambda: wait(1), steps.comment, steps.end]
)
def test_completion_needs_one_chunk(make: Callable[[], Step]) -> None:
    with pytest.raises(ValueError, match="a step that sends one chunk"):
        completion(make())


def test_answer_has_an_outcome() -> None:
    stream = answer("Hel", "lo", finish())
    assert stream.text().join().run() == "Hello"
    assert stream.outcome is not None
    assert (stream.outcome.status, stream.outcome.text) == ("completed", "Hello")
