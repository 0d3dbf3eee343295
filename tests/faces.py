"""Every way to read a Stream, so that one assertion covers all of them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from reactivex import Observable, operators

from rxmistral.rx.stream import Stream

T = TypeVar("T")

BOUND = 60.0
"""Seconds after which an action that takes milliseconds counts as a hang."""


THOROUGH = os.environ.get("HYPOTHESIS_PROFILE", "repeatable") != "repeatable"
"""Whether to run all cases even if a few of them find most faults, as .ci/run does."""


def eventually(condition: Callable[[], bool], bound: float = BOUND) -> bool:
    """Returns whether the condition becomes true within `bound` seconds.

    For conditions without an event to wait for.
    """
    deadline = time.monotonic() + bound
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine, and fails if it leaves a task, which `asyncio.run` would cancel silently."""

    async def check_tasks() -> T:
        result = await main
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others
        return result

    return asyncio.run(check_tasks())


Face: TypeAlias = Callable[[Observable[Any]], list[Any]]
"""Reads a Stream to its end; returns its items, followed by its error if it fails."""


def by_subscribing(stream: Observable[Any]) -> list[Any]:
    received: list[Any] = []
    ended = threading.Event()

    def fail(error: Exception) -> None:
        received.append(error)
        ended.set()

    stream.subscribe(received.append, fail, ended.set)
    assert ended.wait(BOUND)
    return received


def by_for(stream: Stream[Any]) -> list[Any]:
    received: list[Any] = []
    try:
        for item in stream:
            received.append(item)  # noqa: PERF402  # the loop is what is tested
    except Exception as error:
        received.append(error)
    return received


def by_with_for(stream: Stream[Any]) -> list[Any]:
    with stream as opened:
        return by_for(opened)


async def _async_for(stream: Stream[Any]) -> list[Any]:
    received: list[Any] = []
    try:
        async for item in stream:
            received.append(item)  # noqa: PERF401  # the loop is what is tested
    except Exception as error:
        received.append(error)
    return received


def by_async_for(stream: Stream[Any]) -> list[Any]:
    return run(_async_for(stream))


def by_async_with(stream: Stream[Any]) -> list[Any]:
    async def read() -> list[Any]:
        async with stream as opened:
            return await _async_for(opened)

    return run(read())


def _by_reading(read: Callable[[Stream[Any]], Any]) -> Face:
    """Makes a face of a reading that returns only the last item: the items are noted on the way."""

    def by(stream: Observable[Any]) -> list[Any]:
        received: list[Any] = []
        try:
            read(Stream.of(stream).pipe(_note_items(received)))
        except Exception as error:
            received.append(error)
        return received

    return by


def _note_items(received: list[Any]) -> Callable[[Observable[Any]], Stream[Any]]:
    def note(source: Observable[Any]) -> Stream[Any]:
        return Stream.of(
            source.pipe(operators.do_action(received.append), operators.start_with(None))
        )

    return note


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


FACES: dict[str, Face] = {
    "subscribe": by_subscribing,
    "for": by_for,
    "with+for": by_with_for,
    "run": _by_reading(lambda stream: stream.run()),
    "async for": by_async_for,
    "async with": by_async_with,
    "await": _by_reading(lambda stream: run(_await(stream))),
}
