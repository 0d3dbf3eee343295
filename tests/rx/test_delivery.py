"""Delivery: one worker steps each viewer, even when a stuck worker is replaced."""

from __future__ import annotations

import threading
from contextvars import copy_context

from faces import BOUND, eventually

from rxmistral.rx.delivery import Delivery, RunViewers, Viewer, lock, remove


class Stepped(Viewer):
    """A viewer that records the threads that step it, and may block one."""

    def __init__(self, run_viewers: RunViewers) -> None:
        self.run_viewers = run_viewers
        self.stepped_by: list[int] = []
        self.context = copy_context()
        self._proceed: threading.Event | None = None

    def step(self) -> bool:
        self.stepped_by.append(threading.get_ident())
        if self._proceed is not None:
            self._proceed.wait(BOUND)
        return False


def test_moved_viewer_is_stepped_by_one_worker_only() -> None:
    run_viewers, proceed = RunViewers(), threading.Event()
    delivery = Delivery(lock, daemon=False)
    stuck = Stepped(run_viewers)
    delivery.schedule(stuck)
    others = [Stepped(run_viewers) for _ in range(5)]
    for each in others:
        delivery.schedule(each)
    assert eventually(lambda: all(len(each.stepped_by) == 1 for each in (stuck, *others)))
    stuck._proceed = proceed
    run_viewers.wake()  # the viewer that blocks is stepped first
    assert eventually(lambda: all(len(each.stepped_by) == 2 for each in others))
    proceed.set()
    run_viewers.wake()
    assert eventually(lambda: len(stuck.stepped_by) == 3)
    assert eventually(lambda: all(len(each.stepped_by) == 3 for each in others))
    for each in others:
        assert {*stuck.stepped_by[1:]}.isdisjoint(each.stepped_by[1:])
    for each in (stuck, *others):
        remove(each)
