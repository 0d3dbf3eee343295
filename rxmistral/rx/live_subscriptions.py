"""LiveSubscriptions: what `close()` and the end of a `with` block dispose."""

from __future__ import annotations

from threading import RLock
from weakref import WeakSet

from reactivex import abc

from .iteration import current_iteration
from .threads import fork_safe

__all__ = ["LiveSubscriptions"]

# Reentrant, since garbage collection may end an abandoned `with` block at any moment.
_lock = fork_safe(RLock())


class LiveSubscriptions(abc.DisposableBase):
    """A CompositeDisposable that does not keep its members alive."""

    def __init__(self) -> None:
        self._members: WeakSet[abc.DisposableBase] | None = WeakSet()  # None: disposed

    def add(self, subscription: abc.DisposableBase) -> None:
        """Adds a subscription, and the loop that reads it through any number of operators, which
        would otherwise wait forever."""
        loop = current_iteration.get()
        added = [subscription] if loop is None else [subscription, loop]
        with _lock:
            if self._members is not None:
                self._members.update(added)
                return
        for each in added:
            each.dispose()

    def dispose(self) -> None:
        with _lock:
            members, self._members = self._members, None
        for subscription in list(members or ()):
            subscription.dispose()
