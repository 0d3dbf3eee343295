"""Events to completions.

The data of an event is decoded by msgspec straight into Structs; that is the way of all
but a few events. What msgspec refuses is looked at again, slowly: the `[DONE]` that is
no JSON, an error report, and JSON that is not quite JSON but that servers do send: raw
control characters, NaN, and half emojis. A model's token may be one half of a surrogate
pair; written as `"\\ud83d"` it is no text by itself, and the other half comes in the
next chunk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import structs
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from ..errors import (
    ChunkError,
    IncompleteStreamError,
    ReportedError,
    StreamError,
    read_report,
    reported_error,
    whole,
)
from ..inputs import Input
from ..models import CompletionChunk, CompletionEvent, UsageInfo, decode_hook
from ..stream import Stream
from ..wire import ServerSentEvent
from .ending import Lingering
from .totals import ResponseBuilder

__all__ = ["CompletionDecoder", "completions", "completions_into"]

_DONE = "[DONE]"
_AFTER_DONE = 0.25  # seconds that the body may take to end after [DONE], or a reported error

_decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode


class CompletionDecoder:
    """Decodes the events of one answer, and knows how far the answer is.

    Args:
        received: Adds up what is decoded; the answer may be going on with what is in it.
        hides_failure: The finish_reason "error" is not shown, since another answer may
            follow; its `ReportedError` says the same.
    """

    def __init__(self, received: ResponseBuilder, *, hides_failure: bool = False) -> None:
        self.done = False  # [DONE] has come
        self.closed = False  # nothing that comes now is part of the answer
        self.received = received
        self._hides_failure = hides_failure
        self.report: ReportedError | None = None  # to be raised after the chunk it came in
        self._halves = SurrogateJoiner()

    def take(self, data: bytes) -> CompletionEvent | None:
        """The completion that the data of an event holds, in which there is no "error";
        None if it needs the closer look that `feed` takes."""
        if self.closed or self._halves.waiting:
            return None
        try:
            chunk = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if chunk.usage is not None or not chunk.choices:
            return None
        self.received.feed(chunk)
        return CompletionEvent(data=chunk)

    def feed(self, event: ServerSentEvent) -> CompletionEvent | None:
        """The completion that the event holds; None for `[DONE]`, for what comes after it
        and for blank data."""
        if self.closed:
            return None
        data = event.data
        if event.event == "error":
            _raise_reported(data, "error")
        try:
            if self._halves.waiting:
                chunk = self._decode_slowly(data)
            else:
                chunk = _decode(data)
                if chunk.usage is not None:
                    _keep_details(chunk.usage, _decode_usage(data).usage)
        except (msgspec.MsgspecError, RecursionError):
            chunk = self._decode_slowly(data)
        if chunk is None:
            return None
        if not chunk.choices:
            _raise_reported(data)
        elif '"error":' in data:  # as a key; in a text its quotes are escaped
            self.report = reported_error(data)
        self.received.feed(chunk)
        if self.received.failed and self.report is None:
            self.report = _reported_by_finishing(chunk, data)
            if self._hides_failure and self.report is not None:
                return without_failure(CompletionEvent(data=chunk))
        return CompletionEvent(data=chunk)

    @property
    def ended(self) -> bool:
        """Whether the answer may end here."""
        return self.done or self.received.finished

    def _decode_slowly(self, data: str) -> CompletionChunk | None:
        text = data.strip()
        if not text or text == _DONE:
            self.done = self.closed = text == _DONE
            return None
        try:
            value = json.loads(data, strict=False)
        except (ValueError, RecursionError) as error:
            raise ChunkError(data, str(error)) from error
        try:
            value = self._halves.join(_without_nulls(value))
            # Not strict: a number in a string is a number, where one belongs.
            chunk = msgspec.convert(value, CompletionChunk, strict=False, dec_hook=decode_hook)
        except (msgspec.ValidationError, RecursionError) as error:
            _raise_reported(data)
            raise ChunkError(data, str(error)) from error
        if chunk.usage is not None:
            _keep_details(chunk.usage, value["usage"])
        return chunk


class _UsageOf(msgspec.Struct):
    usage: dict[str, Any]


_decode_usage = msgspec.json.Decoder(_UsageOf).decode


def _keep_details(usage: UsageInfo, came: dict[str, Any]) -> None:
    """Keys of the usage that the Struct has no field for."""
    usage.additional_properties = {
        key: value for key, value in came.items() if key not in usage.__struct_fields__
    }


def _reported_by_finishing(chunk: CompletionChunk, data: str) -> ReportedError | None:
    if all(choice.finish_reason != "error" for choice in chunk.choices):
        return None
    said = read_report(data)
    return ReportedError(said.message or "finish_reason is error", said.type, said.code)


def without_failure(event: CompletionEvent) -> CompletionEvent | None:
    """The completion without the finish_reason "error"; None if that was all of it."""
    choices = [
        structs.replace(each, finish_reason=None) if each.finish_reason == "error" else each
        for each in event.data.choices
    ]
    if not any(
        each.finish_reason or each.delta.content or each.delta.tool_calls for each in choices
    ):
        return None
    return structs.replace(event, data=structs.replace(event.data, choices=choices))


def _raise_reported(data: str, event: str = "message") -> None:
    reported = reported_error(data, event)
    if reported is not None:
        raise reported from None


def _without_nulls(chunk: Any) -> Any:
    """The decoded JSON of one chunk, where null stands for nothing in it."""
    _drop_null(chunk, "choices")
    for choice in _dicts(_get(chunk, "choices")):
        _drop_null(choice, "delta")
        for call in _dicts(_get(choice.get("delta"), "tool_calls")):
            _drop_null(call, "function")
    return chunk


def _drop_null(holder: Any, key: str) -> None:
    if isinstance(holder, dict) and holder.get(key, ...) is None:
        del holder[key]


# --- half emojis -----------------------------------------------------------------


class SurrogateJoiner:
    """Joins surrogate pairs that were cut in two over the chunks of one answer.

    A high surrogate at the end of a text waits for the next text of the same kind and
    choice, and is put before it; at the end of the choice it waits no more. A lone one
    becomes U+FFFD, as it would in any decoder.
    """

    def __init__(self) -> None:
        self.waiting: dict[_Place, str] = {}

    def join(self, chunk: Any) -> Any:
        """The decoded JSON of one chunk, with every text whole."""
        for choice in _dicts(_get(chunk, "choices")):
            self._join_choice(choice, _index(choice) or 0)
        return _mended(chunk)

    def _join_choice(self, choice: dict[str, Any], index: int) -> None:
        last = bool(choice.get("finish_reason"))
        delta = choice.setdefault("delta", {})
        if not isinstance(delta, dict):
            return
        content = delta.get("content")
        if isinstance(content, str):
            self._join_key(delta, "content", _Place(index, "text"), last)
        elif isinstance(content, list):
            delta["content"] = content = [_as_part(part) for part in content]
        for part in _dicts(content):
            self._join_key(part, "text", _Place(index, "text"), last)
            for thought in _dicts(part.get("thinking")):
                self._join_key(thought, "text", _Place(index, "thinking"), last)
        for call in _dicts(delta.get("tool_calls")):
            # A call without an index is whole: no other half of it can come.
            place = _Place(index, "arguments", _index(call))
            self._join_key(call.get("function"), "arguments", place, last or place.call is None)
        if last:
            self._end(delta, index)

    def _end(self, delta: dict[str, Any], index: int) -> None:
        """No other half will come: what waits of the text is given back; of a thought or
        of arguments, cut short as they are, it is dropped."""
        half = self.waiting.get(_Place(index, "text"))
        if half is not None:
            content = delta.get("content")
            delta["content"] = [*content, _as_part(half)] if isinstance(content, list) else half
        for place in [place for place in self.waiting if place.choice == index]:
            del self.waiting[place]

    def _join_key(self, holder: Any, key: str, place: _Place, last: bool) -> None:
        if isinstance(_get(holder, key), str):
            text = self.waiting.pop(place, "") + holder[key]
            if not last and "\ud800" <= text[-1:] <= "\udbff":
                self.waiting[place] = text[-1]
                text = text[:-1]
            holder[key] = text


class _Place(NamedTuple):
    """The text that a delta adds to."""

    choice: int
    kind: str
    call: int | None = None


def _index(holder: dict[str, Any]) -> int | None:
    index = holder.get("index")
    return index if isinstance(index, int) else None


def _as_part(part: Any) -> Any:
    """Some servers put bare strings among the parts of a content list."""
    return {"type": "text", "text": part} if isinstance(part, str) else part


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list):
        return [_mended(each) for each in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(each) for key, each in value.items()}
    return value


# --- the operator ----------------------------------------------------------------


def completions(
    *, accept_clean_end: bool = False
) -> Callable[[Observable[ServerSentEvent]], Stream[CompletionEvent]]:
    """Events into the completions they hold.

        --{"choices": ...}--{"choices": ...}--[DONE]-|->
        --completion--------completion---------------|->

    Args:
        accept_clean_end: Take any clean end for an end, for servers that send neither
            a finish_reason nor `[DONE]`.

    Emits: one `CompletionEvent` for each chunk. `[DONE]` never surfaces, nor does what
        comes after it.
    Completes: when the source ends after `[DONE]` or a finish_reason; a quarter of a
        second after `[DONE]` if it does not, as on a connection that is kept open.
    Errors: `ChunkError` for an event without a chunk, `ReportedError` for an error of
        the service (when the source ends, or a quarter of a second later), and
        `IncompleteStreamError` for an end too early. Every `StreamError`,
        the source's too, is given its `partial`.

    >>> import reactivex
    >>> from rxmistral.wire import ServerSentEvent
    >>> event = ServerSentEvent(data='{"choices": [{"delta": {"content": "Hi"}}]}')
    >>> done = ServerSentEvent(data="[DONE]")
    >>> Stream.of(reactivex.of(event, done)).pipe(completions()).run().data.choices[0].delta.content
    'Hi'
    """

    return completions_into(
        lambda: CompletionDecoder(ResponseBuilder(bounded=True)), accept_clean_end
    )


_TAKES = Input(
    "completions",
    ServerSentEvent,
    "events",
    {
        "bytes": "put lines() and events() before it",
        "CompletionEvent": "chat.stream() has decoded them already, leave completions() out",
        "str": "put it before text()",
    },
)


def completions_into(
    make_decoder: Callable[[], CompletionDecoder], accept_clean_end: bool
) -> Callable[[Observable[ServerSentEvent]], Stream[CompletionEvent]]:
    """The same, with a decoder that is made for each subscription."""

    def operate(source: Observable[ServerSentEvent]) -> Stream[CompletionEvent]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[CompletionEvent],
            scheduler: abc.SchedulerBase | None = None,
        ) -> abc.DisposableBase:
            decoder = make_decoder()
            feed, emit = decoder.feed, observer.on_next
            lingering = Lingering(observer, _AFTER_DONE, scheduler)

            def on_next(event: object) -> None:
                if not isinstance(event, ServerSentEvent):
                    observer.on_error(closing(_TAKES.error_for(event)))
                    return
                try:
                    completion = feed(event)
                except ReportedError as report:
                    lingering.begin(closing(report))
                    return
                except StreamError as error:
                    observer.on_error(closing(error))
                    return
                if completion is not None:
                    emit(completion)
                if decoder.report is not None:
                    lingering.begin(closing(decoder.report))
                elif decoder.done:
                    lingering.begin()

            def on_error(error: Exception) -> None:
                if lingering.begun:
                    lingering.end()
                else:
                    observer.on_error(closing(error))

            def on_completed() -> None:
                if lingering.begun or decoder.ended or accept_clean_end:
                    lingering.end()
                else:
                    observer.on_error(closing(IncompleteStreamError()))

            def closing(error: Exception) -> Exception:
                decoder.closed = True
                if isinstance(error, StreamError):
                    error.partial = decoder.received.response(with_unfinished=True)
                return error

            return CompositeDisposable(
                stream.subscribe(on_next, on_error, on_completed, scheduler=scheduler), lingering
            )

        return Stream(subscribe)

    return operate
