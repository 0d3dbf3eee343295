"""LiveSubscriptions: what `close()` and the end of a `with` block dispose."""

from __future__ import annotations

from threading import RLock
from weakref import WeakSet

from reactivex import abc

from .current_iteration import current_iteration
from .stoppable_emission import StoppableEmission
from .subscriber import report_unhandled, subscribing
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
        """Adds a subscription while it begins, and the operator or loop that reads it.

        These would otherwise wait forever.
        """
        subscriber = subscribing.subscriber
        operator = None if subscriber is None else subscriber.closing
        reader = operator or current_iteration.get()
        self.track(subscription) if reader is None else self.track(subscription, reader)

    def track(self, *members: abc.DisposableBase) -> None:
        """Adds subscriptions and loops; disposes them at once if this is disposed."""
        with _live_lock:
            if self._members is not None:
                self._members.update(members)
                return
        for each in members:
            each.dispose()

    def dispose(self) -> None:
        with _live_lock:
            members, self._members = self._members, None
        # An operator gets an error, unless the program's own subscription ends before.
        for subscription in sorted(members or (), key=_is_of_operator):
            try:
                subscription.dispose()
            except Exception as error:  # by finally_action() or on_error; the others end, too
                report_unhandled(error)


def _is_of_operator(subscription: abc.DisposableBase) -> bool:
    return isinstance(subscription, StoppableEmission)
