"""Threads that are used again: work is never lost, and threads end soon."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest
import reactivex
from faces import BOUND, eventually
from leftovers import our_threads

from rxmistral import RequestError
from rxmistral.rx import reused_threads
from rxmistral.rx.cancellation import Cancellation, Cancelled
from rxmistral.rx.reused_threads import note_wait, run_on_thread
from rxmistral.rx.stream import Stream


@pytest.fixture(autouse=True)
def idle_for_as_long_as_in_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reused_threads, "_IDLE_CHECKS", 10)


def ignore(_: RequestError) -> None: ...


def start(do: Callable[[], object], refuse: Callable[[RequestError], object] = ignore) -> None:
    run_on_thread(do, refuse, name="rxmistral-work", daemon=False)


def run_one(do: Callable[[], object]) -> None:
    """Returns when the work is done."""
    done = threading.Event()

    def work() -> None:
        do()
        done.set()

    start(work)
    assert done.wait(BOUND)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


def test_thread_is_used_again() -> None:
    threads: list[threading.Thread] = []
    for _ in range(5):
        run_one(lambda: threads.append(threading.current_thread()))
        assert eventually(lambda: threads[0].name == "rxmistral-idle")
    assert len(set(threads)) < 5  # a busy machine may let one expire


def test_thread_has_the_name_of_its_work() -> None:
    names: list[str] = []
    run_one(lambda: names.append(threading.current_thread().name))
    assert names == ["rxmistral-work"]


def test_idle_thread_ends_soon() -> None:
    run_one(lambda: None)
    assert eventually(lambda: not our_threads())


def test_works_run_at_the_same_time() -> None:
    count = 20
    meeting, met = threading.Barrier(count), threading.Semaphore(0)

    def meet() -> None:
        meeting.wait(BOUND)
        met.release()

    for _ in range(count):
        start(meet)
    for _ in range(count):
        assert met.acquire(timeout=BOUND)


@pytest.fixture
def starts_may_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reused_threads, "_LONGEST_START_SECONDS", 2 * BOUND)


@pytest.mark.usefixtures("starts_may_last")
def test_work_starts_when_another_work_notes_its_wait() -> None:
    started: SimpleQueue[int] = SimpleQueue()
    note, end = threading.Semaphore(0), threading.Semaphore(0)

    def work(number: int) -> None:
        started.put(number)
        note.acquire()
        note_wait()
        end.acquire()

    for number in range(4):
        start(partial(work, number))
    assert [started.get(timeout=BOUND) for _ in range(2)] == [0, 1]
    assert started.empty()
    for number in (2, 3):
        note.release()
        assert started.get(timeout=BOUND) == number
    for _ in range(4):
        note.release()
        end.release()


@pytest.mark.usefixtures("starts_may_last")
def test_work_starts_when_another_work_ends() -> None:
    done = threading.Semaphore(0)
    for _ in range(50):
        start(done.release)
    assert all(done.acquire(timeout=BOUND) for _ in range(50))


@pytest.mark.usefixtures("starts_may_last")
def test_work_starts_when_another_work_waits_for_a_cancellation() -> None:
    cancellations = [Cancellation() for _ in range(5)]
    waiting = threading.Semaphore(0)

    def wait(cancellation: Cancellation) -> None:
        waiting.release()
        with suppress(Cancelled):
            cancellation.wait()

    for each in cancellations:
        start(partial(wait, each))
    assert all(waiting.acquire(timeout=BOUND) for _ in cancellations)
    for each in cancellations:
        each.cancel()


def test_work_may_wait_for_work_that_it_starts() -> None:
    run_one(lambda: run_one(lambda: run_one(lambda: None)))


def test_idle_threads_do_the_work_that_a_waiting_work_starts() -> None:
    """Idle threads are not woken for work whose own thread mostly takes it."""
    meeting = threading.Barrier(3)
    for _ in range(3):
        start(partial(meeting.wait, BOUND))
    run_one(lambda: run_one(lambda: run_one(lambda: None)))


def test_no_work_is_lost_when_threads_are_about_to_end() -> None:
    """Work arrives at all moments around the 0.1 seconds after which an idle thread ends."""
    for step in range(10):
        run_one(lambda: None)
        time.sleep(0.095 + step * 0.001)
        run_one(lambda: None)


def test_threads_end_after_much_short_work() -> None:
    """In CPython 3.11, SimpleQueue.get(timeout=...) of several threads may wait forever."""
    done = threading.Semaphore(0)

    def submit() -> None:
        for _ in range(200):
            start(done.release)

    submitters = [threading.Thread(target=submit) for _ in range(4)]
    for each in submitters:
        each.start()
    for _ in range(800):
        assert done.acquire(timeout=BOUND)
    for each in submitters:
        each.join()
    assert eventually(lambda: not our_threads())


def test_context_of_one_work_is_not_seen_by_the_next() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []
    tenant.set("subscriber")
    run_one(lambda: seen.append(tenant.get()))
    run_one(lambda: seen.append(tenant.get()))
    assert seen == ["nobody", "nobody"]  # work brings its own context


def test_work_is_refused_when_no_thread_starts(no_threads: Callable[[], None]) -> None:
    refused: list[Exception] = []
    no_threads()
    start(lambda: None, refused.append)
    assert [str(each) for each in refused] == [
        "no answer: no thread can be started: can't start new thread"
    ]


def test_works_start_again_when_threads_are_back(
    no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_threads()
    start(lambda: None)
    monkeypatch.undo()
    run_one(lambda: None)


def test_refusal_that_raises_loses_no_other_work(
    monkeypatch: pytest.MonkeyPatch, no_threads: Callable[[], None]
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda details: reported.append(details.exc_type))

    def fail(_: RequestError) -> None:
        raise ZeroDivisionError

    no_threads()
    start(lambda: None, fail)
    refused: list[Exception] = []
    start(lambda: None, refused.append)
    assert reported == [ZeroDivisionError]
    assert len(refused) == 1


def test_interrupted_start_stops_no_later_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            start(lambda: done.append("interrupted"))
    run_one(lambda: done.append("later"))
    assert eventually(lambda: sorted(done) == ["interrupted", "later"])


def test_loop_ends_when_subscribing_raises_system_exit() -> None:
    def leave(_: object) -> Any:
        raise SystemExit

    with pytest.raises(RuntimeError, match="SystemExit"):
        list(Stream.of(reactivex.defer(leave)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child_starts_threads_of_its_own() -> None:
    program = """
        import os, threading
        from rxmistral.rx.reused_threads import run_on_thread

        def run_one():
            done = threading.Event()
            run_on_thread(done.set, print, name="work", daemon=True)
            return done.wait(20)

        def fork_and_work():  # on a reused thread, which the child inherits, too
            child = os.fork()
            if not child:
                os._exit(0 if run_one() else 3)
            results.append(os.waitpid(child, 0)[1])
            forked.set()

        results, forked = [], threading.Event()
        assert run_one()  # a thread is idle now, which the child does not have
        child = os.fork()
        if not child:
            os._exit(0 if run_one() else 3)
        assert os.waitpid(child, 0)[1] == 0
        run_on_thread(fork_and_work, print, name="work", daemon=True)
        assert forked.wait(20)
        assert results == [0]
    """
    run_program(program)


def test_idle_thread_does_not_delay_the_exit_of_a_program() -> None:
    """The program ends its main thread while a thread is idle that is not a daemon."""
    program = """
        import threading
        from rxmistral.rx import reused_threads

        reused_threads._IDLE_CHECKS = 6000  # a minute
        done = threading.Event()
        reused_threads.run_on_thread(done.set, print, name="work", daemon=False)
        assert done.wait(20)
    """
    began = time.monotonic()
    run_program(program)
    assert time.monotonic() - began < BOUND / 2


def run_program(program: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    subprocess.run(command, check=True, timeout=BOUND)
