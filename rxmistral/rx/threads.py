"""Threads of subscriptions: starting one, Ctrl-C during subscribe(), fork.

start_thread         an error of the request, if the system refuses another thread
subscription_scope   Ctrl-C may interrupt subscribe() after a thread was started and before
                     the caller has its Disposable: the scope has it already
fork_safe            a child inherits the parent's locks, but not the threads that would
                     release them: the child gets new locks
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread, get_native_id, local
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from reactivex import abc
from reactivex.disposable import CompositeDisposable
from reactivex.scheduler import ImmediateScheduler, TimeoutScheduler

from ..errors import DroppedStreamError, RequestError
from .clock import monotonic, sleep

__all__ = [
    "ForkAware",
    "SubscriptionScope",
    "add_to_scope",
    "detached_scope",
    "fork_safe",
    "forked_stream_error",
    "record_thread_exit",
    "register_for_fork",
    "start_thread",
    "subscription_scope",
]

T = TypeVar("T")


def start_thread(thread: Thread) -> None:
    """Starts a thread for a subscription; raises RequestError if the system refuses it."""
    handled_before = sys.exception()
    try:
        thread.start()
    except RuntimeError as error:
        interrupt = error.__context__
        # In CPython 3.11, Ctrl-C within Condition.wait() raises RuntimeError: it releases a lock
        # that was not acquired.
        if isinstance(interrupt, KeyboardInterrupt) and interrupt is not handled_before:
            raise interrupt from None
        raise RequestError(f"no thread can be started: {error}") from error


# --- Ctrl-C within subscribe() ---


class SubscriptionScope(CompositeDisposable):
    """The Disposables of everything that starts within a subscription."""

    # The scope of the subscription in which this one starts; if Ctrl-C interrupts before anything
    # else refers to that scope, a run that continues keeps it alive.
    outer: SubscriptionScope | None = None


class _Current(local):
    scope: SubscriptionScope | None = None


_current = _Current()


def add_to_scope(disposable: abc.DisposableBase) -> None:
    """Adds a Disposable to the scope of the current thread, if there is one; call this before
    starting anything that only this Disposable can stop."""
    if _current.scope is not None:
        _current.scope.add(disposable)


@contextmanager
def subscription_scope(scope: SubscriptionScope) -> Iterator[None]:
    """Collects what starts on this thread within the block; the outer scope disposes it too."""
    scope.outer = _current.scope
    add_to_scope(scope)
    with detached_scope(scope):
        yield


@contextmanager
def detached_scope(scope: SubscriptionScope) -> Iterator[None]:
    """Collects what starts on this thread within the block; the outer scope does not."""
    outer, _current.scope = _current.scope, scope
    try:
        yield
    finally:
        _current.scope = outer


# --- fork ---


class ForkAware(Protocol):
    """An object that has to change in the child of a fork."""

    def forked(self) -> None:
        """Drops everything of the parent, in the child; must not wait, and must not make a system
        call that affects the parent's connections."""


_locks: WeakSet[Any] = WeakSet()
_fork_aware: WeakSet[ForkAware] = WeakSet()


def fork_safe(lock: T) -> T:
    """Registers a lock to be renewed in the child of a fork, and returns it."""
    _locks.add(lock)
    return lock


def register_for_fork(instance: ForkAware) -> None:
    _fork_aware.add(instance)


def forked_stream_error() -> DroppedStreamError:
    return DroppedStreamError("it began before a fork, and only the parent process can read it")


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        # As the standard library does for the locks of logging and concurrent.futures.
        lock._at_fork_reinit()
    for instance in list(_fork_aware):
        with suppress(Exception):  # the others have to be called too
            instance.forked()


# Any thread that asks for these schedulers acquires their locks (tested with reactivex 6.1).
fork_safe(TimeoutScheduler._lock)
fork_safe(ImmediateScheduler._lock)

# When a thread exits, OpenSSL 3 frees its data under a lock. A child that is forked at that moment
# can never make a TLS connection. Therefore a fork waits for exiting threads.
_exiting: deque[int] = deque(maxlen=64)  # native thread ids
_LONGEST_EXIT_SECONDS = 0.1
_POLL_SECONDS = 0.0005


def record_thread_exit() -> None:
    """Must be the last call of a thread that has used TLS."""
    _exiting.append(get_native_id())


def _wait_for_exits() -> None:
    end = monotonic() + _LONGEST_EXIT_SECONDS
    while _exiting and monotonic() < end:
        if os.path.exists(f"/proc/self/task/{_exiting[0]}"):
            sleep(_POLL_SECONDS)
        else:  # it has exited, or this is not Linux
            _exiting.popleft()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_exits, after_in_child=_after_fork_in_child)
