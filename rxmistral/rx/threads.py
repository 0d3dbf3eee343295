"""Threads that cannot be started, subscriptions that Ctrl-C interrupts, processes that fork.

Three things that happen to whatever runs on threads, and that no thread can see coming:

    start       a thread may be one too many: that is an error of the request
    begin       Ctrl-C may interrupt subscribe() between the start of a thread and the moment
                when its Disposable is in the caller's hands: so it is kept before that
    fork_safe   a child has the locks of its parent as they were, and not the threads that
                would release them: in the child they are new
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
    """Starts a thread that a subscription needs.

    Raises:
        RequestError: No thread can be started.
    """
    handled = sys.exception()
    try:
        thread.start()
    except RuntimeError as error:
        interrupt = error.__context__
        # Ctrl-C within Condition.wait() leaves a lock that cannot be released; CPython 3.11.
        if isinstance(interrupt, KeyboardInterrupt) and interrupt is not handled:
            raise interrupt from None
        raise RequestError(f"no thread can be started: {error}") from error


# --- Ctrl-C within subscribe() ---------------------------------------------------


class SubscriptionScope(CompositeDisposable):
    """The Disposables of everything that begins within a subscription.

    Attributes:
        outer: The subscription that this one begins within. A run that goes on keeps it from
            being collected, although Ctrl-C came before anybody had it.
    """

    outer: SubscriptionScope | None = None


class _Beginning(local):
    kept: SubscriptionScope | None = None


_beginning = _Beginning()


def add_to_scope(disposable: abc.DisposableBase) -> None:
    """Makes a Disposable known to the subscriptions within which it begins; call this before
    anything runs that only this Disposable stops."""
    kept = _beginning.kept
    if kept is not None:
        kept.add(disposable)


@contextmanager
def subscription_scope(kept: SubscriptionScope) -> Iterator[None]:
    """Collects all that begins on this thread within the block."""
    kept.outer = _beginning.kept
    add_to_scope(kept)
    with detached_scope(kept):
        yield


@contextmanager
def detached_scope(kept: SubscriptionScope) -> Iterator[None]:
    """Collects all that begins within the block, and that outlives the subscription around it."""
    outer, _beginning.kept = _beginning.kept, kept
    try:
        yield
    finally:
        _beginning.kept = outer


# --- fork ------------------------------------------------------------------------


class ForkAware(Protocol):
    """An object that means something else in the child of a fork."""

    def forked(self) -> None:
        """Drop everything that belongs to the parent, in the child, without waiting and
        without a system call that reaches the parent's connections."""


_locks: WeakSet[Any] = WeakSet()
_inherited: WeakSet[ForkAware] = WeakSet()

I = TypeVar("I", bound=ForkAware)  # noqa: E741


def fork_safe(lock: T) -> T:
    """Has a lock (or a Condition) renewed in the child of a fork, where the thread that held
    it does not exist."""
    _locks.add(lock)
    return lock


def register_for_fork(thing: I) -> I:
    """Has `forked()` of an object called in the child of a fork, as long as it exists."""
    _inherited.add(thing)
    return thing


def forked_stream_error() -> DroppedStreamError:
    """The error of an answer that a child of a fork tries to read on."""
    return DroppedStreamError("it began before a fork, and the parent process reads it")


def _renew() -> None:
    for lock in list(_locks):
        # As the standard library does it with the locks of logging and concurrent.futures.
        lock._at_fork_reinit()
    for thing in list(_inherited):
        with suppress(Exception):  # the others have to be renewed too
            thing.forked()


# Held by each thread that asks for the scheduler; tried with reactivex 6.1.
fork_safe(TimeoutScheduler._lock)
fork_safe(ImmediateScheduler._lock)

# As a thread exits, OpenSSL 3 frees its part of that, and holds a lock meanwhile; a child that
# is forked in that moment makes no TLS connection, ever. So a fork waits for those that exit.
_exiting: deque[int] = deque(maxlen=64)  # system's ids
_LONGEST_EXIT = 0.1  # seconds


def record_thread_exit() -> None:
    """The last that a thread does which has spoken TLS."""
    _exiting.append(get_native_id())


def _wait_for_exits() -> None:
    end = monotonic() + _LONGEST_EXIT
    while _exiting and monotonic() < end:
        if os.path.exists(f"/proc/self/task/{_exiting[0]}"):
            sleep(0.0005)
        else:  # or this is not Linux
            _exiting.popleft()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_exits, after_in_child=_renew)
