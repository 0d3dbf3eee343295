"""Backpressure: a full buffer pauses its sources, and makes the threads wait that may."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from faces import BOUND, eventually

from rxmistral.rx.backpressure import Backpressure


class CountingSource:
    """A source that counts how often it was paused and resumed."""

    def __init__(self) -> None:
        self.pauses = 0
        self.resumes = 0

    def pause(self) -> None:
        self.pauses += 1

    def resume(self) -> None:
        self.resumes += 1


def test_source_is_not_paused_when_there_is_room() -> None:
    backpressure, source = Backpressure(), CountingSource()
    backpressure.apply(source, lambda: False)
    assert (source.pauses, backpressure.waiting) == (0, set())


def test_source_is_resumed_once_when_paused_twice() -> None:
    backpressure, source = Backpressure(), CountingSource()
    for _ in range(2):  # the rest of its block
        backpressure.apply(source, lambda: True)
    assert (source.pauses, source.resumes) == (2, 0)
    backpressure.release()
    backpressure.release()
    assert source.resumes == 1


def test_source_is_resumed_when_room_is_made_during_the_pause() -> None:
    backpressure, source = Backpressure(), CountingSource()
    backpressure.apply(source, lambda: source.pauses == 0)
    assert (source.pauses, source.resumes) == (1, 1)


def waiting_thread(backpressure: Backpressure, is_full: Callable[[], bool]) -> threading.Thread:
    thread = threading.Thread(target=backpressure.apply, args=(None, is_full), daemon=True)
    thread.start()
    return thread


def has_ended(thread: threading.Thread) -> bool:
    thread.join(BOUND)
    return not thread.is_alive()


def test_thread_does_not_wait_when_room_is_made_meanwhile() -> None:
    backpressure = Backpressure()
    assert has_ended(waiting_thread(backpressure, lambda: not backpressure.waiting))


def test_thread_waits_on_when_released_without_room() -> None:
    backpressure, full = Backpressure(), threading.Event()
    full.set()
    thread = waiting_thread(backpressure, full.is_set)
    for _ in range(3):
        assert eventually(lambda: bool(backpressure.waiting))
        backpressure.release()
    assert eventually(lambda: bool(backpressure.waiting))
    full.clear()
    backpressure.release()
    assert has_ended(thread)


def test_threads_pass_a_small_buffer_together() -> None:
    backpressure, items = Backpressure(), deque[int]()

    def emit() -> None:
        for number in range(300):
            items.append(number)
            backpressure.apply(None, lambda: len(items) >= 4)

    threads = [threading.Thread(target=emit, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(900):
        assert eventually(lambda: bool(items))
        assert len(items) < 4 + len(threads)
        items.popleft()
        if backpressure.waiting and len(items) <= 2:
            backpressure.release()
    assert all(has_ended(thread) for thread in threads)
