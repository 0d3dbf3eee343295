"""The check whether an event loop is blocked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from rxmistral.rx.blocked_loops import BlockedLoopCheck, hand_over_from


def test_only_a_blocked_loop_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("rxmistral.rx.blocked_loops.monotonic", lambda: clock.now)
    handed_over: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        hand_over_from[loop] = lambda: handed_over.append(clock.now)
        check = BlockedLoopCheck(loop)
        for clock.now in (0.0, 10.0):
            check()
            await asyncio.sleep(0)  # the loop runs its callbacks
        for clock.now in (20.0, 20.9, 21.0, 21.5, 22.0):
            check()

    asyncio.run(main())
    assert handed_over == [21.0, 22.0]


def test_check_of_a_closed_loop_raises_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    check = BlockedLoopCheck(loop)
    check()
    check()
