"""Workers: slow and blocked tasks move, and a task that has ended is stepped no more."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextvars import copy_context

import pytest
from faces import BOUND, eventually

from rxmistral.rx.delivery import Delivery, RunViewers, Viewer, lock, remove


class Slow(Viewer):
    """A viewer whose steps take long, and that ends in the last of them."""

    def __init__(self, steps: int) -> None:
        self.steps_left = steps
        self.ended = threading.Event()
        self.context = copy_context()

    def step(self) -> bool:
        time.sleep(0.02)
        self.steps_left -= 1
        if self.steps_left == 0:
            remove(self)
        return self.steps_left > 0

    def on_removed(self) -> None:
        self.ended.set()


class Stuck(Viewer):
    """A viewer whose step ends when it is released."""

    def __init__(self) -> None:
        self.stepping, self.release = threading.Event(), threading.Event()
        self.context = copy_context()

    def step(self) -> bool:
        self.stepping.set()
        assert self.release.wait(BOUND)
        return False


class Fast(Viewer):
    def __init__(self) -> None:
        self.stepped_by: list[int] = []
        self.context = copy_context()

    def step(self) -> bool:
        self.stepped_by.append(threading.get_ident())
        return False


def schedule(delivery: Delivery, viewer: Viewer, viewers: RunViewers) -> None:
    viewer.run_viewers = viewers
    delivery.schedule(viewer)


def test_worker_that_is_given_up_gets_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another call may be about to start its thread, while its tasks move to another worker."""
    started: list[threading.Thread] = []
    monkeypatch.setattr("rxmistral.rx.worker.start_thread", started.append)
    delivery = Delivery(lock, daemon=True)
    given_up, other = delivery.new_worker(), delivery.new_worker()
    assert given_up.give_up()
    given_up.start()
    assert not started
    other.start()
    assert len(started) == 1
    assert not other.give_up()


def test_ended_task_is_not_moved_when_its_last_step_is_slow() -> None:
    for steps in range(1, 6):  # it is slow after a few of them
        delivery, viewers = Delivery(lock, daemon=True), RunViewers()
        fast, slow = Fast(), Slow(steps)
        schedule(delivery, fast, viewers)
        schedule(delivery, slow, viewers)
        assert slow.ended.wait(BOUND)
        assert eventually(lambda slow=slow: slow.worker is None)
        remove(fast)
        assert eventually(lambda delivery=delivery: delivery.lead is None)


def test_ended_task_is_freed_while_its_worker_runs() -> None:
    delivery, viewers = Delivery(lock, daemon=True), RunViewers()
    fast, slow = Fast(), Slow(2)
    schedule(delivery, fast, viewers)
    schedule(delivery, slow, viewers)
    assert slow.ended.wait(BOUND)
    reference = weakref.ref(slow)
    del slow

    def is_freed() -> bool:
        gc.collect()
        return reference() is None

    assert eventually(is_freed)
    remove(fast)


def test_others_go_on_when_several_tasks_block() -> None:
    delivery, viewers = Delivery(lock, daemon=True), RunViewers()
    fast, blocked = Fast(), [Stuck() for _ in range(4)]
    schedule(delivery, fast, viewers)
    first = delivery.lead
    assert first is not None
    for each in blocked:
        schedule(delivery, each, viewers)
    assert all(each.stepping.wait(BOUND) for each in blocked)  # each on a worker of its own
    count = len(fast.stepped_by)
    viewers.wake()
    assert eventually(lambda: len(fast.stepped_by) > count)
    assert delivery.lead is not None
    assert delivery.lead.tick_seconds < first.tick_seconds  # so that each delay is shorter
    for each in blocked:
        each.release.set()
        remove(each)
    remove(fast)
