"""Attempts, which sends the requests of one answer until it ends.

    attempt ──▶ blocks ──▶ lines ──▶ events ──▶ completions ──▶ subscriber
       ▲                                            │ error; the connection is released
       │   nothing useful was received: Retry       │
       ├────────────────────────────────────────────┤
       │   text was received: Resume, with it       │
       └────────────────────────────────────────────┘──▶ end

Strategy: each attempt runs on a reader thread of its own, which first waits if it has to: for
the pause before a repeated request, and for a slot of a `Limit`. If the client has a scheduler,
its timers wait for these, and then the reader thread starts. The next attempt begins when
the previous one has released its connection, so an answer uses one connection at a time. All
decisions are made on the thread of the attempt that ended, so they need no lock.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from contextvars import Context, copy_context
from logging import getLogger

from msgspec import structs
from reactivex import abc
from reactivex.disposable import SerialDisposable
from reactivex.scheduler import TimeoutScheduler, VirtualTimeScheduler

from ..completions.accumulator import CompletionAccumulator
from ..completions.decoding import CompletionDecoder
from ..completions.fast_path import completions_of_blocks
from ..completions.outcome_builder import OutcomeBuilder
from ..errors import MistralError, RequestTimeoutError, StreamError, StreamTimeoutError, redacted
from ..models import CompletionEvent, UsageInfo
from ..outcome import Outcome, Status
from ..rx.cancellation import Cancellation, Cancelled, Waiter, Waits, pause
from ..rx.request_counter import current_counter
from ..rx.scheduled_waits import ScheduledWaits
from ..rx.threads import SubscriptionScope, subscription_scope
from ..wire import blocks
from ..wire.reader import Request, Response
from ..wire.sender import post
from .policies.limit import Limit
from .policies.resume import (
    EchoFilter,
    can_be_continued,
    continuation_of,
    is_break,
    requested_answers,
)
from .policies.retry import Retry, may_be_repeated, retry_after
from .policies.scheduled_timeouts import ScheduledTimeouts
from .policies.timeouts import ResponseTimeouts
from .settings import Call

__all__ = ["Attempts", "add_usage"]

_log = getLogger("rxmistral")

_REQUEST_ID_HEADER = "mistral-correlation-id"


class Attempts(abc.DisposableBase):
    """The requests of one answer; its Disposable, and the state of the answer."""

    def __init__(
        self,
        call: Call,
        on_response: Callable[[Response], None],
        on_next: Callable[[CompletionEvent], None],
        on_error: Callable[[Exception], None],
        on_completed: Callable[[], None],
    ) -> None:
        self._call = call
        self._notify_response = on_response
        self._emit = on_next
        self._fail = on_error
        self._complete = on_completed
        self._context = copy_context()  # of the subscriber, for the further attempts
        self._received = CompletionAccumulator(bounded=True, answers=requested_answers(call.body))
        self._scheduled = self._scheduled_timeouts()
        self._timeouts = self._scheduled or ResponseTimeouts(call.policies.timeouts, self._received)
        self._outcome_builder = OutcomeBuilder(self._received, self._timeouts, self._timeouts.now)
        self.counter = self._outcome_builder.counter
        self.counter.report_to(current_counter.get())

        self._attempt = SerialDisposable()
        self._cancellation = Cancellation()  # of the waits before a request
        self._acquired: list[Limit] = []  # the limit in which it has a slot
        self._secret = ""
        self._error: Exception | None = None
        self._callback_error: Exception | None = None
        self._is_released = True
        self._is_over = False
        self._may_hide_failure = bool(call.policies.retry or call.policies.resume)
        self._useless_requests = 0  # in a row
        self._pause_seconds = 0.0  # before the next request

        self._body = call.body
        self._prefix = call.echo  # the text that is continued, which the answer may repeat
        self._echo: EchoFilter | None = None
        self._broken: StreamError | None = None  # the break after which it is continued
        self._earlier_usage: UsageInfo | None = None

        # Last, so that nothing fails between the start and the end of the span.
        self._span = None if call.telemetry is None else call.telemetry.start_answer(call)

    def _scheduled_timeouts(self) -> ScheduledTimeouts | None:
        call, scheduler = self._call, self._call.scheduler
        if call.open_blocks is not blocks:
            scheduler = scheduler or TimeoutScheduler.singleton()
        elif not isinstance(scheduler, VirtualTimeScheduler):
            return None  # a reader of sockets measures real time by itself
        return ScheduledTimeouts(call.policies.timeouts, self._received, scheduler)

    def start(self) -> None:
        self._error = None
        scheduler = self._call.scheduler
        if scheduler is None:
            self._send()
            return
        waits = ScheduledWaits(scheduler, self._timeouts.total_remaining())
        self._attempt.disposable = waits
        waits.start(self._waits(waits), self._on_waited)

    def _on_waited(self, error: TimeoutError | None) -> None:
        if error is not None:
            self._handle_failure(self._total_timeout())
        elif not self._is_over:
            self._send()

    def _send(self) -> None:
        self._is_released = False
        self._echo = EchoFilter(self._prefix) if self._prefix else None
        call = self._call
        received = self._received if self._echo is None else CompletionAccumulator(bounded=True)
        source = call.open_blocks(
            self._make_request,
            session=call.session,
            idle_timeout=self._timeouts,
            on_response=self._on_response,
            on_release=self._on_release,
            reader=call.reader,
            tap=call.tap,
        )
        if self._scheduled is not None:
            source = self._scheduled.interruptible(source)
        attempt = source.pipe(
            completions_of_blocks(
                lambda: CompletionDecoder(received, hides_failure=self._may_hide_failure),
                max_bytes=call.max_event_bytes,
                accept_clean_end=call.accept_clean_end,
                start_grace_period=self._timeouts.start_grace_period,
            )
        )
        on_next = self._emit if self._echo is None else self._on_next
        # Assigned before the attempt begins: it may end, and another one begin, on other
        # threads before subscribe() returns here; and Ctrl-C may interrupt subscribe().
        subscription = SubscriptionScope()
        self._attempt.disposable = subscription
        with subscription_scope(subscription):
            subscription.add(
                self._context.copy().run(
                    attempt.subscribe, on_next, self._on_error, self._on_completed
                )
            )

    def outcome(self, error: BaseException | None, status: Status | None = None) -> Outcome:
        self._timeouts.apply_news()
        if error is not None and error is self._callback_error:
            status = "failed"
        return self._outcome_builder.outcome(error, status)

    def end_span(self, make_outcome: Callable[[], Outcome]) -> None:
        span, self._span = self._span, None
        if span is not None:
            seconds = self._timeouts.now() - self._outcome_builder.began_at
            span.end(make_outcome(), seconds, self._received.count_outputs())

    # --- on the reader's thread: before the request ---

    def _make_request(self) -> Request:
        has_to_wait = self._pause_seconds > 0 or self._call.policies.limit is not None
        if has_to_wait and self._call.scheduler is None:
            self._wait_to_send()
        if self._is_over:  # disposed between two attempts
            raise Cancelled
        authorization = self._call.authorize()
        self._timeouts.restart()
        self.counter.count_request()
        _log.debug("sending request %d to %s", self.counter.requests, self._call.url)
        span = self._span
        sending = nullcontext if span is None else span.sending
        return post(self._call.url, self._call.headers, self._body, authorization, sending)

    def _wait_to_send(self) -> None:
        cancellation = self._cancellation
        cancellation.deadline = cancellation.now() + self._timeouts.total_remaining()
        try:
            cancellation.run(self._waits(cancellation))
        except TimeoutError:
            raise self._total_timeout() from None

    def _waits(self, waiter: Waiter) -> Waits:
        """The waits before a request: for the pause, and for a slot and the rate of a `Limit`."""
        limit, began = self._call.policies.limit, waiter.now()
        try:
            yield from pause(waiter, self._pause_seconds)
            if limit is not None:
                if not self._acquired:
                    yield from limit.acquire(waiter)
                    self._acquired.append(limit)
                    if self._is_over:  # since a moment, so that nothing else releases it
                        self._release_slot()
                yield from limit.wait_to_send(waiter)
        finally:
            self._timeouts.add_wait(waiter.now() - began)

    def _total_timeout(self) -> RequestTimeoutError:
        return RequestTimeoutError("total", self._call.policies.timeouts.total or 0.0)

    def _on_response(self, response: Response) -> None:
        # The header that was sent, which may be the session's.
        header = response.request.headers.get("Authorization", "")
        self._secret = str(header).rpartition(" ")[2] or self._secret
        self.counter.record_request_id(response.headers.get(_REQUEST_ID_HEADER))
        _log.debug("headers received: status %d", response.status_code)
        if response.ok:
            self.counter.count_response(self._timeouts.now())
            if self._scheduled is not None:
                self._scheduled.has_response = True
        _warn_of_deprecation(self._call.model, response)
        self._notify_response(response)

    # --- the items of a continuation ---

    def _on_next(self, event: CompletionEvent) -> None:
        assert self._echo is not None
        for each in self._echo.feed(event):
            self._emit_continued(each)

    def _emit_continued(self, event: CompletionEvent) -> None:
        usage = event.data.usage
        if usage is not None and self._earlier_usage is not None:
            data = structs.replace(event.data, usage=add_usage(self._earlier_usage, usage))
            event = structs.replace(event, data=data)
        self._received.feed(event.data)
        self._emit(event)

    # --- the end of an attempt ---

    def _on_completed(self) -> None:
        try:
            for each in self._echo.close() if self._echo is not None else ():
                self._emit_continued(each)
        except Exception as error:  # raised by the subscriber
            self._callback_error = error
            self._end(error)
        else:
            self._end(None)

    def _on_error(self, error: Exception) -> None:
        self._error = redacted(error, self._secret)
        if self._is_released:
            self._handle_failure(self._error)

    def _on_release(self, callback_error: Exception | None) -> None:
        self._is_released = True
        self._callback_error = callback_error or self._callback_error
        if self._is_over:
            self._release_slot()
        elif self._error is not None:
            self._handle_failure(self._error)
        elif self._scheduled is not None:
            self._scheduled.emit_expiry()

    def _handle_failure(self, error: Exception) -> None:
        """Starts another attempt, or ends; called when the connection is released."""
        try:
            if isinstance(error, MistralError) and error is not self._callback_error:
                self._add_partial(error)
                if self._prepare_next(error):
                    self.start()
                    return
                error = self._final_error(error)
        except Exception as raised:  # by a callback of the policies
            error = raised
        self._end(error)

    def _prepare_next(self, error: MistralError) -> bool:
        self._timeouts.apply_news()
        self._pause_limit(error)
        if self._is_over or self._received.finished:
            return False
        if self._timeouts.has_news:
            self._useless_requests = 0
            return self._prepare_resume(error)
        self._useless_requests += 1
        return self._prepare_retry(error) or self._prepare_resume(error)

    def _pause_limit(self, error: MistralError) -> None:
        limit, seconds = self._call.policies.limit, retry_after(error)
        if limit is not None and seconds is not None:
            longest = (self._call.policies.retry or Retry()).maximum
            limit.pause_for(min(seconds, longest), self._timeouts.now)

    def _prepare_retry(self, error: MistralError) -> bool:
        retry = self._call.policies.retry
        if retry is None:
            return False
        elapsed = self._timeouts.now() - self._outcome_builder.began_at
        wait = retry.wait_after(error, self._useless_requests, elapsed)
        if wait is None or wait > self._timeouts.total_remaining():
            return False
        if retry.on_retry is not None:
            retry.on_retry(error, self._useless_requests, wait)
        _log.debug("retry in %.3f s after a %s", wait, type(error).__name__)
        self._pause_seconds = wait
        self._received.begin_again()
        return True

    def _prepare_resume(self, error: MistralError) -> bool:
        resume = self._call.policies.resume
        broken = error if isinstance(error, StreamError) else self._broken
        if resume is None or self.counter.resumed >= resume.attempts:
            return False
        if broken is None or not self._received.can_be_continued():
            return False
        is_temporary = is_break(error) if self._broken is None else may_be_repeated(error)
        if not (is_temporary and can_be_continued(self._call.body, resume.structured)):
            return False
        if resume.on_resume is not None:
            resume.on_resume(broken, self.counter.resumed + 1)
        self.counter.count_resume()
        _log.debug("resume %d after a %s", self.counter.resumed, type(broken).__name__)
        received = self._received
        received.begin_again()
        self._earlier_usage = received.usage
        self._body, self._prefix = continuation_of(self._call.body, received.text())
        self._broken = broken
        self._useless_requests, self._pause_seconds = 0, 0.0
        return True

    def _final_error(self, error: MistralError) -> MistralError:
        """Returns the break in place of the error of a continuation that could not be sent."""
        if self._broken is None or isinstance(error, StreamError):
            return error
        if isinstance(error, RequestTimeoutError) and error.clock == "total":
            timeout = StreamTimeoutError(error.clock, error.seconds)
            timeout.__cause__ = self._broken
            self._add_partial(timeout)
            return timeout
        self._broken.add_note(f"the request to continue the answer failed: {error}")
        return self._broken

    def _add_partial(self, error: MistralError) -> None:
        """Replaces the partial response of a continuation by that of the whole answer."""
        if self._broken is not None and isinstance(error, StreamError):
            error.partial = self._received.response(with_unfinished=True)

    def _end(self, error: Exception | None) -> None:
        complete, fail = self._complete, self._fail
        self._stop()
        if error is None:
            complete()
        else:
            fail(error)

    def dispose(self) -> None:
        self._is_over = True
        self._cancellation.cancel()
        self._stop()

    def _release_slot(self) -> None:
        with suppress(IndexError):  # it has none, or another thread has released it
            self._acquired.pop().release()

    def _stop(self) -> None:
        self._is_over = True
        if self._is_released:
            self._release_slot()
        # Breaks the reference cycles through this object, which is kept for its outcome. The text
        # of each answer would stay in memory until a garbage collection.
        self._attempt.dispose()
        if self._scheduled is not None:
            self._scheduled.stop()
        self._notify_response = self._emit = self._fail = self._complete = _ignore
        self._context = Context()
        self._error = None


def _ignore(*_: object) -> None:
    pass


def add_usage(earlier: UsageInfo, later: UsageInfo) -> UsageInfo:
    """Returns the later usage, with the tokens of both."""
    sums = {
        name: one + other
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        if isinstance(one := getattr(earlier, name), int)
        and isinstance(other := getattr(later, name), int)
    }
    return structs.replace(later, **sums)


def _warn_of_deprecation(model: str, response: Response) -> None:
    when = response.headers.get("x-model-deprecation-timestamp")
    if when is None:
        return
    with suppress(DeprecationWarning):  # a filter may raise it, which must not end the answer
        warnings.warn(
            f"the model {model} is deprecated and will be removed at {when}", DeprecationWarning, 2
        )
