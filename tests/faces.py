"""Every way to read a Stream, so that one assertion can be made on all of them."""

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
"""Seconds that a thing which takes milliseconds may take before the test calls it a hang."""


THOROUGH = os.environ.get("HYPOTHESIS_PROFILE", "repeatable") != "repeatable"
"""Whether to try all cases also where some of them show most faults, as .ci/run does."""


def eventually(condition: Callable[[], bool], bound: float = BOUND) -> bool:
    """Whether it comes true within the bound; for what has no event that one could wait for."""
    deadline = time.monotonic() + bound
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, which would silently cancel a task that was left behind."""

    async def alone() -> T:
        result = await main
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others
        return result

    return asyncio.run(alone())


Face: TypeAlias = Callable[[Observable[Any]], list[Any]]
"""Reads a Stream to its end: what came, and the error that it ended with as the last item."""


def by_subscribing(stream: Observable[Any]) -> list[Any]:
    came: list[Any] = []
    ended = threading.Event()

    def fail(error: Exception) -> None:
        came.append(error)
        ended.set()

    stream.subscribe(came.append, fail, ended.set)
    assert ended.wait(BOUND)
    return came


def by_for(stream: Stream[Any]) -> list[Any]:
    came: list[Any] = []
    try:
        for item in stream:
            came.append(item)  # noqa: PERF402  # the loop is what is tested
    except Exception as error:
        came.append(error)
    return came


def by_with_for(stream: Stream[Any]) -> list[Any]:
    with stream as opened:
        return by_for(opened)


async def _async_for(stream: Stream[Any]) -> list[Any]:
    came: list[Any] = []
    try:
        async for item in stream:
            came.append(item)  # noqa: PERF401  # the loop is what is tested
    except Exception as error:
        came.append(error)
    return came


def by_async_for(stream: Stream[Any]) -> list[Any]:
    return run(_async_for(stream))


def by_async_with(stream: Stream[Any]) -> list[Any]:
    async def read() -> list[Any]:
        async with stream as opened:
            return await _async_for(opened)

    return run(read())


def _the_last(read: Callable[[Stream[Any]], Any]) -> Face:
    """A face that gives the last item only: all of them are put into one first."""

    def by(stream: Observable[Any]) -> list[Any]:
        came: list[Any] = []
        try:
            read(Stream.of(stream).pipe(_noting(came)))
        except Exception as error:
            came.append(error)
        return came

    return by


def _noting(came: list[Any]) -> Callable[[Observable[Any]], Stream[Any]]:
    def note(source: Observable[Any]) -> Stream[Any]:
        return Stream.of(source.pipe(operators.do_action(came.append), operators.start_with(None)))

    return note


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


FACES: dict[str, Face] = {
    "subscribe": by_subscribing,
    "for": by_for,
    "with+for": by_with_for,
    "run": _the_last(lambda stream: stream.run()),
    "async for": by_async_for,
    "async with": by_async_with,
    "await": _the_last(lambda stream: run(_await(stream))),
}
