"""leaving: tells a reader that leaves by itself from one that is stopped."""

from __future__ import annotations

from threading import local

from reactivex.scheduler import CurrentThreadScheduler

__all__ = ["leaving"]


class _Leaving(local):
    _depth = 0  # a block that ends leaves its loops

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1

    @property
    def by_itself(self) -> bool:
        """Whether this thread disposes because of the end of a loop, a block or an operator.

        An operator such as `take` may dispose while the trampoline of `subscribe` is running.
        """
        return self._depth > 0 or not CurrentThreadScheduler.singleton().schedule_required()


leaving = _Leaving()
"""Within `with leaving:`, disposals by this thread are not due to a stop."""
