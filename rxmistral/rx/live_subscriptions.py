"""LiveSubscriptions: what `close()` and the end of a `with` block dispose."""

from __future__ import annotations

from threading import RLock
from weakref import WeakSet

from reactivex import abc

from .current_iteration import current_iteration
from .stoppable_emission import StoppableEmission
from .subscriber import subscribing
from .threads import fork_safe

__all__ = ["LiveSubscriptions"]

# Reentrant, since garbage collection may end an abandoned `with` block at any moment.
_live_lock = fork_safe(RLock())


class LiveSubscriptions(abc.DisposableBase):
    """The subscriptions that `close()` and the end of a `with` block dispose.

    They are not kept alive by this object.
    """

    def __init__(self) -> None:
        self._members: WeakSet[abc.DisposableBase] | None = WeakSet()  # None: disposed

    def add(self, subscription: abc.DisposableBase) -> None:
        """Adds a subscription and the operator or loop that reads it, which would otherwise wait
        forever."""
        subscriber = subscribing.subscriber
        reader = None if subscriber is None else subscriber.closing
        reader = reader or current_iteration.get()
        self._add(subscription) if reader is None else self._add(subscription, reader)

    def track(self, reader: abc.DisposableBase) -> None:
        """Adds a subscription or a loop of the program, also if it has not subscribed yet."""
        self._add(reader)

    def _add(self, *added: abc.DisposableBase) -> None:
        with _live_lock:
            if self._members is not None:
                self._members.update(added)
                return
        for each in added:
            each.dispose()

    def dispose(self) -> None:
        with _live_lock:
            members, self._members = self._members, None
        # An operator gets an error, unless the program's own subscription ends before.
        for subscription in sorted(members or (), key=_is_of_operator):
            subscription.dispose()


def _is_of_operator(subscription: abc.DisposableBase) -> bool:
    return isinstance(subscription, StoppableEmission)
