"""One answer, asked for as often as that takes.

    attempt ──▶ blocks ──▶ lines ──▶ events ──▶ completions ──▶ subscriber
       ▲                                            │ an error, and the connection is free
       │   nothing useful had come: Retry           │
       ├────────────────────────────────────────────┤
       │   text had come: Resume, with that text    │
       └────────────────────────────────────────────┘──▶ the end

Each attempt has a reader thread of its own, which waits first, if there is something to
wait for: the pause before a repeated request, a slot of a `Limit`. The next attempt
begins when the one before has given its connection back, so there is one connection at a
time; and all that is decided is decided on the thread of the attempt that ended.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from threading import Lock

from msgspec import structs
from reactivex import abc
from reactivex.disposable import SerialDisposable

from ..completions.accumulator import CompletionAccumulator
from ..completions.decoding import CompletionDecoder
from ..completions.fast_path import completions_of_blocks
from ..completions.recorder import OutcomeBuilder
from ..errors import MistralError, RequestTimeoutError, StreamError, StreamTimeoutError, redacted
from ..models import CompletionEvent, UsageInfo
from ..outcome import Outcome, Status
from ..rx.cancellation import Cancellation, Cancelled
from ..rx.clock import monotonic
from ..rx.request_counter import current_counter
from ..rx.threads import SubscriptionScope, subscription_scope
from ..wire import blocks
from ..wire.reader import Reader, Request, Response, Session
from ..wire.sender import post
from .policies.limit import Limit
from .policies.resume import (
    EchoFilter,
    Resume,
    answers_asked_for,
    can_be_continued,
    continued,
    is_break,
)
from .policies.retry import Retry, may_be_repeated, retry_after
from .policies.timeouts import ResponseTimeouts, Timeouts

__all__ = ["Attempts", "Call", "Policies"]


@dataclass(frozen=True, slots=True)
class Policies:
    """What is done beside asking once."""

    timeouts: Timeouts
    retry: Retry | None
    resume: Resume | None
    limit: Limit | None


@dataclass(frozen=True, slots=True, repr=False)  # its headers may contain a key
class Call:
    """What is asked of whom, and how."""

    model: str
    url: str
    headers: dict[str, str]
    body: bytes
    echo: str  # the text that the body ends in, and that may come back
    authorize: Callable[[], str | None]
    session: Session
    accept_clean_end: bool
    max_event_bytes: int
    reader: Reader | None
    policies: Policies
    embedded: object = None  # the demo server, which lives as long as this may be sent


class Attempts(abc.DisposableBase):
    """One run, its Disposable, and what is known of it.

    Args:
        call: What to ask for.
        answered: Told of the headers of each answer.
        on_next, on_error, on_completed: As of any observer.
    """

    def __init__(
        self,
        call: Call,
        answered: Callable[[Response], None],
        on_next: Callable[[CompletionEvent], None],
        on_error: Callable[[Exception], None],
        on_completed: Callable[[], None],
    ) -> None:
        self._call = call
        self._answered = answered
        self._emit = on_next
        self._fail = on_error
        self._complete = on_completed
        self._context = copy_context()  # of who subscribed, for the attempts to come
        self._received = CompletionAccumulator(bounded=True, answers=answers_asked_for(call.body))
        self._timeouts = ResponseTimeouts(call.policies.timeouts, self._received)
        self._record = OutcomeBuilder(self._received, self._timeouts)
        self.counter = self._record.counter
        self.counter.report_to(current_counter.get())

        self._attempt = SerialDisposable()
        self._secret = ""
        self._error: Exception | None = None
        self._raised: Exception | None = None  # by the subscriber
        self._released = True
        self._over = False
        self._turn = _Turn(call.policies.limit)
        self._may_go_on = call.policies.retry is not None or call.policies.resume is not None

        self._failures = 0  # requests in a row that brought nothing
        self._pause = 0.0  # seconds before the next request

        self._body = call.body
        self._broken: StreamError | None = None  # what the answer is continued after
        self._text = call.echo  # that it goes on from, and that may come back
        self._echo: EchoFilter | None = None
        self._spent: UsageInfo | None = None

    def start(self) -> None:
        self._released, self._error = False, None
        self._echo = EchoFilter(self._text) if self._text else None
        call = self._call
        received = self._received if self._echo is None else CompletionAccumulator(bounded=True)
        attempt = blocks(
            self._make_request,
            session=call.session,
            idle_timeout=self._timeouts,
            on_response=self._on_response,
            on_release=self._on_release,
            reader=call.reader,
        ).pipe(
            completions_of_blocks(
                lambda: CompletionDecoder(received, hides_failure=self._may_go_on),
                max_bytes=call.max_event_bytes,
                accept_clean_end=call.accept_clean_end,
                hurry=self._timeouts.start_grace_period,
            )
        )
        on_next = self._emit if self._echo is None else self._on_next
        # In its place before it begins: it may have ended, and another have begun, on
        # other threads before subscribe() returns here; or Ctrl-C may interrupt that.
        subscription = SubscriptionScope()
        self._attempt.disposable = subscription
        with subscription_scope(subscription):
            subscription.add(
                self._context.copy().run(
                    attempt.subscribe, on_next, self._on_error, self._on_completed
                )
            )

    def outcome(self, error: BaseException | None, status: Status | None = None) -> Outcome:
        self._timeouts.note_news()
        if error is not None and error is self._raised:
            status = "failed"
        return self._record.outcome(error, status)

    # --- on the reader's thread: before the request ---

    def _make_request(self) -> Request:
        self._wait_for_turn()
        if self._over:  # left between two attempts: no request more
            raise Cancelled
        authorization = self._call.authorize()
        self._timeouts.restart()
        self.counter.count_request()
        return post(self._call.url, self._call.headers, self._body, authorization)

    def _wait_for_turn(self) -> None:
        waiter, began = self._turn.waiter, monotonic()
        waiter.deadline = began + self._timeouts.total_remaining()
        try:
            waiter.sleep(self._pause)
            self._turn.wait()
        except TimeoutError:
            raise RequestTimeoutError("total", self._call.policies.timeouts.total or 0.0) from None
        finally:
            self._timeouts.add_wait(monotonic() - began)

    def _on_response(self, response: Response) -> None:
        sent = response.request.headers.get("Authorization", "")  # the session's, perhaps
        self._secret = str(sent).rpartition(" ")[2] or self._secret
        if response.ok:
            self.counter.count_response(monotonic())
        _warn_of_deprecation(self._call.model, response)
        self._answered(response)

    # --- what comes, where the answer is continued ---

    def _on_next(self, event: CompletionEvent) -> None:
        assert self._echo is not None
        for each in self._echo.feed(event):
            self._go_on_with(each)

    def _go_on_with(self, event: CompletionEvent) -> None:
        usage = event.data.usage
        if usage is not None and self._spent is not None:
            data = structs.replace(event.data, usage=_sum(self._spent, usage))
            event = structs.replace(event, data=data)
        self._received.feed(event.data)
        self._emit(event)

    # --- how it ends ---

    def _on_completed(self) -> None:
        try:
            for each in self._echo.close() if self._echo is not None else ():
                self._go_on_with(each)
        except Exception as raised:  # by the subscriber
            self._raised = raised
            self._end(raised)
        else:
            self._end(None)

    def _on_error(self, error: Exception) -> None:
        self._error = redacted(error, self._secret)
        if self._released:
            self._decide(self._error)

    def _on_release(self, raised: Exception | None) -> None:
        self._released = True
        self._raised = raised or self._raised
        if self._over:
            self._turn.leave()
        elif self._error is not None:
            self._decide(self._error)

    def _decide(self, error: Exception) -> None:
        """The attempt has failed, and its connection is free."""
        try:
            if isinstance(error, MistralError) and error is not self._raised:
                self._amend(error)
                if self._goes_on(error):
                    self.start()
                    return
                error = self._final(error)
        except Exception as raised:  # by a callback of the policies
            error = raised
        self._end(error)

    def _goes_on(self, error: MistralError) -> bool:
        self._timeouts.note_news()
        self._pause_others(error)
        if self._over or self._received.finished:
            return False
        if self._timeouts.has_news:
            self._failures = 0
            return self._resumes(error)
        self._failures += 1
        return self._retries(error) or self._resumes(error)

    def _pause_others(self, error: MistralError) -> None:
        limit, longest = self._call.policies.limit, (self._call.policies.retry or Retry()).maximum
        pause = retry_after(error)
        if limit is not None and pause is not None:
            limit.close_for(min(pause, longest))

    def _retries(self, error: MistralError) -> bool:
        retry = self._call.policies.retry
        if retry is None:
            return False
        elapsed = monotonic() - self._record.began_at
        wait = retry.wait_after(error, self._failures, elapsed)
        if wait is None or wait > self._timeouts.total_remaining():
            return False
        if retry.on_retry is not None:
            retry.on_retry(error, self._failures, wait)
        self._pause = wait
        self._received.begin_again()
        return True

    def _resumes(self, error: MistralError) -> bool:
        resume = self._call.policies.resume
        broken = error if isinstance(error, StreamError) else self._broken
        if resume is None or self.counter.resumed >= resume.attempts:
            return False
        if broken is None or not self._can_go_on_after(error, resume):
            return False
        if resume.on_resume is not None:
            resume.on_resume(broken, self.counter.resumed + 1)
        self.counter.count_resume()
        received = self._received
        received.begin_again()
        self._spent = received.usage
        self._body, self._text = continued(self._call.body, received.text())
        self._broken = broken
        self._failures, self._pause = 0, 0.0
        return True

    def _can_go_on_after(self, error: MistralError, resume: Resume) -> bool:
        received = self._received
        failed = may_be_repeated(error) if self._broken is not None else is_break(error)
        return (
            failed
            and not received.overflowed
            and not received.has_tool_calls()
            and received.text() != ""
            and can_be_continued(self._call.body, resume.structured)
        )

    def _final(self, error: MistralError) -> MistralError:
        """What to say in the end: where the rest of an answer was refused, that it had
        broken."""
        if self._broken is None or isinstance(error, StreamError):
            return error
        if isinstance(error, RequestTimeoutError) and error.clock == "total":
            late = StreamTimeoutError(error.clock, error.seconds)
            late.__cause__ = self._broken
            self._amend(late)
            return late
        self._broken.add_note(f"the request to continue the answer failed: {error}")
        return self._broken

    def _amend(self, error: MistralError) -> None:
        """What a continuation knows of is its own part of the answer."""
        if self._broken is not None and isinstance(error, StreamError):
            error.partial = self._received.response(with_unfinished=True)

    def _end(self, error: Exception | None) -> None:
        self._over = True
        if self._released:
            self._turn.leave()
        complete, fail = self._complete, self._fail
        self._let_go()
        if error is None:
            complete()
        else:
            fail(error)

    def dispose(self) -> None:
        self._over = True
        self._turn.waiter.cancel()
        self._let_go()
        if self._released:
            self._turn.leave()

    def _let_go(self) -> None:
        """What is over holds nothing but what came: all else would hold it in turn, and
        the text of an answer would wait for the garbage collection."""
        self._attempt.dispose()
        self._answered = self._emit = self._fail = _nothing
        self._complete = _done
        self._context = Context()
        self._error = None


class _Turn:
    """A run's place in what is limited, and what its reader waits with."""

    def __init__(self, limit: Limit | None) -> None:
        self.waiter = Cancellation()
        self._limit = limit
        self._inside = False
        self._lock = Lock()

    def wait(self) -> None:
        """For a slot, if it has none, and for the leave to send."""
        if self._limit is None:
            return
        if not self._inside:
            self._limit.enter(self.waiter)
            self._inside = True
        self._limit.pass_by(self.waiter)

    def leave(self) -> None:
        with self._lock:
            inside, self._inside = self._inside, False
        if inside and self._limit is not None:
            self._limit.leave()


def _nothing(_: object) -> None:
    pass


def _done() -> None:
    pass


def _sum(one: UsageInfo, other: UsageInfo) -> UsageInfo:
    """What both cost; what only the later one says is kept as it is."""
    sums = {
        name: mine + yours
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        if isinstance(mine := getattr(one, name), int)
        and isinstance(yours := getattr(other, name), int)
    }
    return structs.replace(other, **sums)


def _warn_of_deprecation(model: str, response: Response) -> None:
    when = response.headers.get("x-model-deprecation-timestamp")
    if when is None:
        return
    with suppress(DeprecationWarning):  # a warning made an error must not end an answer
        warnings.warn(f"the model {model} is deprecated and goes at {when}", DeprecationWarning, 2)
