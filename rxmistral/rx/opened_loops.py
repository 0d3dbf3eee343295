"""OpenedLoops: the loops over a Stream itself in its `with` block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from threading import current_thread
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc

from .iteration import AsyncIteration

__all__ = ["OpenedLoops"]

T = TypeVar("T")


class OpenedLoops(Generic[T]):
    """The loops of one block, by the thread or task that reads them.

    A loop that was left with `break` goes on where it was when the same reader loops again; after
    a loop that has ended, the next one begins with the first item.
    """

    def __init__(self) -> None:
        self._loops: dict[object, Any] = {}

    def sync(self, iterate: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Returns the loop of the current thread; `iterate` begins one."""
        reader = current_thread()
        loop: Iterator[T] | None = self._loops.get(reader)
        if loop is None:
            loop = self._loops[reader] = self._until_end(reader, iterate)
        return loop

    def _until_end(self, reader: object, iterate: Callable[[], Iterator[T]]) -> Iterator[T]:
        try:
            yield from iterate()
        finally:
            self.forget(reader)

    def asynchronous(
        self, source: Observable[T], track: Callable[[abc.DisposableBase], None]
    ) -> AsyncIterator[T]:
        """Returns the loop of the current task, which may begin as an `AsyncIteration`."""
        reader = _current_task()
        loop: AsyncIterator[T] | None = self._loops.get(reader)
        if loop is None:
            loop = self._loops[reader] = _OpenedAsyncLoop(source, track, self, reader)
        return loop

    def forget(self, reader: object) -> None:
        self._loops.pop(reader, None)


class _OpenedAsyncLoop(AsyncIteration[T]):
    def __init__(
        self,
        source: Observable[T],
        track: Callable[[abc.DisposableBase], None],
        loops: OpenedLoops[T],
        reader: object,
    ) -> None:
        super().__init__(source, track)
        self._loops = loops
        self._reader = reader

    async def __anext__(self) -> T:
        try:
            return await super().__anext__()
        except BaseException:  # its end, an error, or the task was cancelled
            self._loops.forget(self._reader)
            raise


def _current_task() -> object:
    with suppress(RuntimeError):  # no event loop is running
        return asyncio.current_task()
    return None
