"""Events to completions.

Strategy: msgspec decodes the data of nearly every event straight into Structs. What it rejects
is examined again, slowly: `[DONE]`, which is not JSON, keep-alives, an error report, a chunk
with fields of wrong types, and almost-JSON that servers send: raw control characters, NaN, and
halves of surrogate pairs. Chunks that deviate from the API are repaired (`repair`), before
anything else sees them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from ..errors import ChunkError, IncompleteStreamError, ReportedError, StreamError, reported_error
from ..lenient_decoding import convert_leniently
from ..models import CompletionChunk, CompletionEvent, UsageInfo, decode_hook
from ..rx.fluent import returning
from ..rx.state_machine import InputType, operate
from ..rx.stream import Stream
from ..wire import ServerSentEvent
from ..wire.events import on_truncated_event
from .accumulator import CompletionAccumulator
from .completion_stream import CompletionStream
from .finish import END_GRACE_SECONDS, GracePeriod, error_of_finish_reason, without_failure
from .repair import (
    REASONING_KEYS,
    Reasoning,
    SurrogateJoiner,
    add_reasoning,
    decode_reasoning,
    is_keep_alive,
    repair_choices,
)

__all__ = ["CompletionDecoder", "EventObserver", "completions", "completions_into"]

_DONE = "[DONE]"

# The errors of msgspec and json for data that is not JSON, not of the expected type, or too deep.
_UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class _ChunkUsage(msgspec.Struct):
    usage: dict[str, Any]


_decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode
_decode_usage = msgspec.json.Decoder(_ChunkUsage).decode


class CompletionDecoder:
    """A decoder of the events of one answer; it tracks how the answer may end.

    Args:
        received: Adds up the decoded chunks; may contain an earlier part of the answer.
        hides_failure: Whether to leave out the finish_reason "error", because another attempt
            may follow. Its `ReportedError` reports the failure anyway.
    """

    def __init__(self, received: CompletionAccumulator, *, hides_failure: bool = False) -> None:
        self.done = False  # `[DONE]` was received
        self.received = received
        self.pending_error: ReportedError | None = None  # to raise after its chunk
        self._hides_failure = hides_failure
        self._closed = False
        self._ended_inside_event = False
        self._needs_slow_path = False  # for simple events, too
        self._surrogates = SurrogateJoiner()

    def decode_simple(self, data: bytes) -> CompletionEvent | None:
        """Returns the completion in an event without an "error"; None if `feed` must examine it."""
        if self._needs_slow_path:
            return None
        try:
            chunk = _decode(data)
            (choice,) = chunk.choices
            if data.find(b'"reasoning') >= 0:  # faster than `in`
                add_reasoning(chunk, decode_reasoning(data))
        except _UNDECODABLE:
            return None
        if choice.finish_reason or chunk.usage is not None:
            return None
        if not self.received.feed_text(choice):
            if not choice.delta.content and b'"message"' in data:
                return None
            self.received.feed(chunk)
        return CompletionEvent(data=chunk)

    def feed(self, event: ServerSentEvent) -> CompletionEvent | None:
        """Returns the completion in an event, if it contains one.

        None for `[DONE]`, for any event after it, and for one that only keeps the connection open.
        """
        if self._closed:
            return None
        try:
            return self._feed(event)
        finally:
            self._needs_slow_path = bool(
                self._closed or self._surrogates.waiting or self.received.finished
            )

    def feed_truncated(self, event: ServerSentEvent | None) -> CompletionEvent | None:
        """Returns the completion in the last event, if only its blank line is missing."""
        if event is not None and _is_whole_chunk(event.data):
            return self.feed(event)
        self._ended_inside_event = True
        return None

    def close(self) -> None:
        self._closed = self._needs_slow_path = True

    def incomplete_reason(self) -> str | None:
        """Returns why the end of the body cannot be the end of an answer; None if it can."""
        if self._ended_inside_event:
            return "it ended inside an event"
        if not self.received.has_output:
            return "it ended before any text, thinking or tool call"
        return None

    def _feed(self, event: ServerSentEvent) -> CompletionEvent | None:
        data = event.data
        if event.event == "error":
            _raise_if_reported(data, "error")
        chunk = self._decode_fast(data) or self._decode_slowly(event)
        if chunk is None:
            return None
        if not chunk.choices:
            if chunk.usage is None and _only_keeps_alive(event):
                return None
            _raise_if_reported(data)
        elif '"error":' in data:  # a key: in a text its quotes would be escaped
            self.pending_error = reported_error(data)
        self.received.feed(chunk)
        completion = CompletionEvent(data=chunk)
        if self.received.failed and self.pending_error is None:
            self.pending_error = error_of_finish_reason(chunk, data)
            if self._hides_failure and self.pending_error is not None:
                return without_failure(completion)
        return completion

    def _decode_fast(self, data: str) -> CompletionChunk | None:
        if self._surrogates.waiting or '"message"' in data:
            return None
        try:
            chunk = _decode(data)
            if chunk.usage is not None:
                _add_unknown_keys(chunk.usage, _decode_usage(data).usage)
            if '"reasoning' in data:
                add_reasoning(chunk, decode_reasoning(data))
        except _UNDECODABLE:
            return None
        return chunk

    def _decode_slowly(self, event: ServerSentEvent) -> CompletionChunk | None:
        data = event.data
        text = data.strip()
        if text == _DONE:
            self.done = self._closed = True
            return None
        try:
            value = json.loads(data, strict=False)
            return self._repaired(value, data) if isinstance(value, dict) else None
        except (ValueError, RecursionError) as error:
            if text[:1] != "{" or is_keep_alive(event.event):
                return None
            _raise_if_reported(data)
            raise ChunkError(data, str(error)) from error

    def _repaired(self, value: dict[str, Any], data: str) -> CompletionChunk | None:
        choices = value.get("choices")
        if isinstance(choices, list):
            value["choices"] = repair_choices(choices, self.received.has_output_in)
            if choices and not value["choices"] and not value.get("usage"):
                _raise_if_reported(data)
                return None
        value = self._surrogates.join(value)
        chunk: CompletionChunk = convert_leniently(value, CompletionChunk, decode_hook)
        if chunk.usage is not None:
            _add_unknown_keys(chunk.usage, value["usage"])
        if chunk.choices:
            deltas = (choice["delta"] for choice in value["choices"])
            add_reasoning(chunk, (Reasoning(*map(delta.get, REASONING_KEYS)) for delta in deltas))
        return chunk


def _only_keeps_alive(event: ServerSentEvent) -> bool:
    """Whether an event, by its type or the one in its data (`{"type": "ping"}`), is a keep-alive."""
    return is_keep_alive(event.event) or is_keep_alive(
        json.loads(event.data, strict=False).get("type")
    )


def _is_whole_chunk(data: str) -> bool:
    """Returns whether the data of an incomplete event is a whole chunk, or `[DONE]`."""
    try:
        value = json.loads(data, strict=False)
    except (ValueError, RecursionError):
        return data.strip() == _DONE
    return isinstance(value, dict) and "choices" in value


def _add_unknown_keys(usage: UsageInfo, received: dict[str, Any]) -> None:
    usage.additional_properties = {
        key: value for key, value in received.items() if key not in usage.__struct_fields__
    }


def _raise_if_reported(data: str, event: str = "message") -> None:
    reported = reported_error(data, event)
    if reported is not None:
        raise reported from None


# --- the operator ----------------------------------------------------------------


def completions(
    *, accept_clean_end: bool = False
) -> Callable[[Observable[ServerSentEvent]], CompletionStream]:
    """Events into the completions that they contain.

        --{"choices": ...}--{"choices": ...}--[DONE]-|->
        --completion--------completion---------------|->

    Args:
        accept_clean_end: Whether a clean end after text, thinking or a tool call is the end of
            the answer, for servers that send neither a finish_reason nor `[DONE]`; default False.

    Emits: one `CompletionEvent` for each chunk. `[DONE]` and everything after it is dropped.
        Events that only keep the connection open are skipped: `ping`, `null`, and anything else
        that is not a JSON object. A field that cannot be read is None. Reasoning in keys of its
        own (`reasoning_content`, `reasoning`) becomes a `ThinkChunk` in the content.
    Completes: when the source ends or breaks after `[DONE]` or a finish_reason; 0.25 seconds
        after them if it stays open.
    Errors: `ChunkError` for a broken JSON object; `ReportedError` for an error that the service
        reports, when the source ends, or 0.25 seconds later; `IncompleteStreamError` for an end
        that is too early. Every `StreamError`, the source's included, has its `partial`.

    >>> import reactivex
    >>> from rxmistral.wire import ServerSentEvent
    >>> event = ServerSentEvent(data='{"choices": [{"delta": {"content": "Hi"}}]}')
    >>> done = ServerSentEvent(data="[DONE]")
    >>> Stream.of(reactivex.of(event, done)).pipe(completions()).run().data.choices[0].delta.content
    'Hi'
    """
    operator = completions_into(
        lambda: CompletionDecoder(CompletionAccumulator(bounded=True)), accept_clean_end
    )
    return returning(CompletionStream, operator)


def completions_into(
    make_decoder: Callable[[], CompletionDecoder],
    accept_clean_end: bool,
    start_grace_period: Callable[[], None] | None = None,
) -> Callable[[Observable[ServerSentEvent]], Stream[CompletionEvent]]:
    """Returns the operator `completions()` with a decoder for each subscription.

    A source that can end its stream after `END_GRACE_SECONDS` has `start_grace_period`, in place
    of a timer.
    """

    def subscribe_to(
        stream: Stream[ServerSentEvent],
        observer: abc.ObserverBase[CompletionEvent],
        scheduler: abc.SchedulerBase | None,
    ) -> abc.DisposableBase:
        decoding = EventObserver(
            make_decoder(), accept_clean_end, observer, scheduler, start_grace_period
        )
        token = on_truncated_event.set(decoding.on_truncated_event)
        try:
            subscription = stream.subscribe(
                decoding.on_next, decoding.on_error, decoding.on_completed, scheduler=scheduler
            )
        finally:
            on_truncated_event.reset(token)
        return CompositeDisposable(subscription, decoding)

    return operate(subscribe_to)


_ACCEPTED = InputType(
    "completions",
    ServerSentEvent,
    "events",
    {
        "bytes": "put lines() and events() before it",
        "CompletionEvent": "chat.stream() has decoded them already, leave completions() out",
        "str": "put it before text()",
    },
)


class EventObserver(GracePeriod, abc.ObserverBase[ServerSentEvent]):
    """The observer of the events of one subscription, which decides how the answer ends."""

    def __init__(
        self,
        decoder: CompletionDecoder,
        accept_clean_end: bool,
        observer: abc.ObserverBase[CompletionEvent],
        scheduler: abc.SchedulerBase | None,
        start_in_source: Callable[[], None] | None,
    ) -> None:
        super().__init__(observer, END_GRACE_SECONDS, scheduler, start_in_source)
        self._decoder = decoder
        self._accept_clean_end = accept_clean_end
        self._feed, self._emit = decoder.feed, observer.on_next

    def on_next(self, value: object) -> None:
        if not isinstance(value, ServerSentEvent):
            self._observer.on_error(self._close_with(_ACCEPTED.error_for(value)))
            return
        try:
            completion = self._feed(value)
        except ReportedError as report:
            self.start(self._close_with(report))
        except StreamError as error:
            self.start(self._close_with(error))
            self.end()
        else:
            self._pass_on(completion)

    def on_truncated_event(self, event: ServerSentEvent | None) -> None:
        self._pass_on(self._decoder.feed_truncated(event))

    def on_error(self, error: Exception) -> None:
        if self.has_started:
            self._decoder.close()  # for the rest of the block, which may follow
            self.end()
        else:
            self._observer.on_error(self._close_with(error))

    def on_completed(self) -> None:
        received, reason = self._decoder.received, self._decoder.incomplete_reason()
        is_clean_end = self._accept_clean_end and reason is None
        if self.has_started or self._decoder.done or received.finished or is_clean_end:
            self.end()
        else:
            self._observer.on_error(self._close_with(IncompleteStreamError(reason)))

    def _pass_on(self, completion: CompletionEvent | None) -> None:
        decoder = self._decoder
        is_last = decoder.done or decoder.received.is_complete
        if is_last and self._start_in_source is not None:  # before the subscriber can dispose
            self.start()
        try:
            if completion is not None:
                (self.emit if self.has_started else self._emit)(completion)
        except Exception as raised:  # by the subscriber: it replaces any other ending
            self.error = raised
            raise
        if decoder.pending_error is not None:
            self.start(self._close_with(decoder.pending_error))
        elif is_last:
            self.start()
        elif self.has_started:  # another of several answers goes on
            self.cancel()

    def _close_with(self, error: Exception) -> Exception:
        """Closes the decoder; returns the error, with its `partial`."""
        self._decoder.close()
        if isinstance(error, StreamError):
            error.partial = self._decoder.received.response(with_unfinished=True)
        return error
