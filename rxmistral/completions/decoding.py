"""Events to completions.

The data of an event is decoded by msgspec straight into Structs; that is the way of all
but a few events. What msgspec refuses is looked at again, slowly: the `[DONE]` that is
no JSON, keep-alives, an error report, a chunk with fields of wrong types, and JSON that is
not quite JSON but that servers do send: raw control characters, NaN, and half emojis. A
model's token may be one half of a surrogate pair; written as `"\\ud83d"` it is no text by
itself, and the other half comes in the next chunk.

Reasoning that a server writes into keys of its own, `reasoning_content` or `reasoning`,
becomes a `ThinkChunk` in the content here, before anything else sees the chunk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import structs
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from ..error_report import read_report, whole
from ..errors import ChunkError, IncompleteStreamError, ReportedError, StreamError, reported_error
from ..models import CompletionChunk, CompletionEvent, UsageInfo, decode_hook, readable
from ..rx.input_type import InputType
from ..rx.stream import Stream
from ..wire import ServerSentEvent
from ..wire.events import on_truncated_event
from .accumulator import CompletionAccumulator
from .finish import AFTER_END, Lingering
from .repair import REASONING, Reasoning, add_thoughts, is_keep_alive, repair_choices

__all__ = ["CompletionDecoder", "completions", "completions_into"]

_DONE = "[DONE]"

_decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode


class CompletionDecoder:
    """Decodes the events of one answer, and knows how far the answer is.

    Args:
        received: Adds up what is decoded; the answer may be going on with what is in it.
        hides_failure: The finish_reason "error" is not shown, since another answer may
            follow; its `ReportedError` says the same.
    """

    def __init__(self, received: CompletionAccumulator, *, hides_failure: bool = False) -> None:
        self.done = False  # [DONE] has come
        self.closed = False
        self._looks_closer = False  # at every event
        self.cut = False  # the body ended inside an event
        self.received = received
        self._hides_failure = hides_failure
        self.report: ReportedError | None = None  # to be raised after the chunk it came in
        self._halves = SurrogateJoiner()

    def take(self, data: bytes) -> CompletionEvent | None:
        """The completion that the data of an event holds, in which there is no "error";
        None if it needs the closer look that `feed` takes."""
        if self._looks_closer:
            return None
        try:
            chunk = _decode(data)
            (choice,) = chunk.choices
            if data.find(b'"reasoning') >= 0:  # faster than `in`
                add_thoughts(chunk, _reasonings_in(data))
        except _NOT_SIMPLE:
            return None
        if choice.finish_reason or chunk.usage is not None:
            return None
        if not choice.delta.content and b'"message"' in data:
            return None
        self.received.feed(chunk)
        return CompletionEvent(data=chunk)

    def feed(self, event: ServerSentEvent) -> CompletionEvent | None:
        """The completion that the event holds; None for `[DONE]`, for anything after it,
        and for an event that keeps the connection open."""
        if self.closed:
            return None
        try:
            return self._feed(event)
        finally:
            self._looks_closer = bool(self.closed or self._halves.waiting or self.received.finished)

    def close(self) -> None:
        """Nothing that arrives now is part of the answer."""
        self.closed = self._looks_closer = True

    def _feed(self, event: ServerSentEvent) -> CompletionEvent | None:
        data = event.data
        if event.event == "error":
            _raise_reported(data, "error")
        chunk = self._decode_at_once(data) or self._decode_slowly(event)
        if chunk is None:
            return None
        if not chunk.choices:
            if chunk.usage is None and _keeps_alive(event):
                return None
            _raise_reported(data)
        elif '"error":' in data:  # as a key; in a text its quotes are escaped
            self.report = reported_error(data)
        self.received.feed(chunk)
        if self.received.failed and self.report is None:
            self.report = _reported_by_finishing(chunk, data)
            if self._hides_failure and self.report is not None:
                return without_failure(CompletionEvent(data=chunk))
        return CompletionEvent(data=chunk)

    def feed_unfinished(self, event: ServerSentEvent | None) -> CompletionEvent | None:
        """The completion in an event that the end of the body cut short, if only its blank
        line is missing; None if there is none in it."""
        if event is not None and _is_whole(event.data):
            return self.feed(event)
        self.cut = True
        return None

    @property
    def ended(self) -> bool:
        """Whether the answer may end here."""
        return self.done or self.received.finished

    def why_incomplete(self) -> str | None:
        """Why the end of the body can not be the end of an answer; None if it can."""
        if self.cut:
            return "it ended inside an event"
        return None if self.received.useful else "it ended before any text, thinking or tool call"

    def _decode_at_once(self, data: str) -> CompletionChunk | None:
        if self._halves.waiting or '"message"' in data:
            return None
        try:
            chunk = _decode(data)
            if chunk.usage is not None:
                _keep_details(chunk.usage, _decode_usage(data).usage)
            if '"reasoning' in data:
                add_thoughts(chunk, _reasonings_in(data))
        except _UNDECODABLE:
            return None
        return chunk

    def _decode_slowly(self, event: ServerSentEvent) -> CompletionChunk | None:
        data = event.data
        text = data.strip()
        if text == _DONE:
            self.done = self.closed = True
            return None
        try:
            value = json.loads(data, strict=False)
            return self._repaired(value, data) if isinstance(value, dict) else None
        except (ValueError, RecursionError) as error:
            if text[:1] != "{" or is_keep_alive(event.event):
                return None
            _raise_reported(data)
            raise ChunkError(data, str(error)) from error

    def _repaired(self, value: dict[str, Any], data: str) -> CompletionChunk | None:
        choices = value.get("choices")
        if isinstance(choices, list):
            value["choices"] = repair_choices(choices, self.received.has_begun)
            if choices and not value["choices"] and not value.get("usage"):
                _raise_reported(data)
                return None
        value = self._halves.join(value)
        chunk: CompletionChunk = readable(value, CompletionChunk)
        if chunk.usage is not None:
            _keep_details(chunk.usage, value["usage"])
        if chunk.choices:
            deltas = (choice["delta"] for choice in value["choices"])
            add_thoughts(chunk, (Reasoning(*map(delta.get, REASONING)) for delta in deltas))
        return chunk


# What msgspec refuses: JSON that is none, or not of the wanted type, or too deep.
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NOT_SIMPLE = (*_UNDECODABLE, ValueError)  # or not exactly one choice


class _UsageOf(msgspec.Struct):
    usage: dict[str, Any]


class _ReasoningOf(msgspec.Struct, gc=False):
    delta: Reasoning | None = None


class _ReasoningsOf(msgspec.Struct, gc=False):
    choices: list[_ReasoningOf] = []


_decode_usage = msgspec.json.Decoder(_UsageOf).decode
_decode_reasonings = msgspec.json.Decoder(_ReasoningsOf).decode


def _reasonings_in(data: bytes | str) -> list[Reasoning | None]:
    return [choice.delta for choice in _decode_reasonings(data).choices]


def _keeps_alive(event: ServerSentEvent) -> bool:
    """Whether an event without a chunk is there to keep the connection open, as its type
    says, or its data: `{"type": "ping"}`."""
    return is_keep_alive(event.event) or is_keep_alive(
        json.loads(event.data, strict=False).get("type")
    )


def _is_whole(data: str) -> bool:
    """Whether the data of an event that the end cut short is all of it."""
    try:
        value = json.loads(data, strict=False)
    except (ValueError, RecursionError):
        return data.strip() == _DONE
    return isinstance(value, dict) and "choices" in value


def _keep_details(usage: UsageInfo, came: dict[str, Any]) -> None:
    """Keys of the usage that the Struct has no field for."""
    usage.additional_properties = {
        key: value for key, value in came.items() if key not in usage.__struct_fields__
    }


def _reported_by_finishing(chunk: CompletionChunk, data: str) -> ReportedError | None:
    if all(choice.finish_reason != "error" for choice in chunk.choices):
        return None
    said = read_report(data)
    if not said.message:  # some servers put it into the choice
        choices = _dicts(_get(json.loads(data, strict=False), "choices"))
        errors = [choice["error"] for choice in choices if choice.get("error")]
        said = read_report(json.dumps(errors[0])) if errors else said
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
        delta = choice["delta"]
        for key in REASONING:
            self._join_key(delta, key, _Place(index, key), last)
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
        accept_clean_end: Take a clean end after text, thinking or a tool call for an end,
            for servers that send neither a finish_reason nor `[DONE]`.

    Emits: one `CompletionEvent` for each chunk. `[DONE]` never surfaces, nor does anything
        after it. Events that only keep the connection open are skipped: `ping`, `null`, and
        anything else that is not a JSON object. A field that cannot be read is None.
        Reasoning in keys of its own (`reasoning_content`, `reasoning`) is content.
    Completes: when the source ends after `[DONE]` or a finish_reason, even if it breaks then;
        a quarter of a second after them if it does not end, as on a connection that is kept
        open.
    Errors: `ChunkError` for a JSON object that is broken, `ReportedError` for an error of
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
        lambda: CompletionDecoder(CompletionAccumulator(bounded=True)), accept_clean_end
    )


_TAKES = InputType(
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
    make_decoder: Callable[[], CompletionDecoder],
    accept_clean_end: bool,
    hurry: Callable[[], None] | None = None,
) -> Callable[[Observable[ServerSentEvent]], Stream[CompletionEvent]]:
    """`completions()` with a decoder that is made for each subscription, and with a source that
    can be asked to end soon: `hurry` is called when the answer is whole."""

    def operate(source: Observable[ServerSentEvent]) -> Stream[CompletionEvent]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[CompletionEvent],
            scheduler: abc.SchedulerBase | None = None,
        ) -> abc.DisposableBase:
            decoder = make_decoder()
            feed, emit = decoder.feed, observer.on_next
            lingering = Lingering(observer, AFTER_END, scheduler, hurry)

            def on_next(event: object) -> None:
                if not isinstance(event, ServerSentEvent):
                    observer.on_error(closing(_TAKES.error_for(event)))
                    return
                try:
                    completion = feed(event)
                except ReportedError as report:
                    lingering.begin(closing(report))
                except StreamError as error:
                    lingering.begin(closing(error))
                    lingering.end()
                else:
                    pass_on(completion)

            def pass_on(completion: CompletionEvent | None) -> None:
                ends = decoder.done or decoder.received.whole
                if ends and hurry is not None:  # before the subscriber can leave
                    lingering.begin()
                try:
                    if completion is not None:
                        (lingering.next if lingering.begun else emit)(completion)
                except Exception as raised:  # by the subscriber: no ending of the answer hides it
                    lingering.error = raised
                    raise
                if decoder.report is not None:
                    lingering.begin(closing(decoder.report))
                elif ends:
                    lingering.begin()
                elif lingering.begun:  # one more of several answers
                    lingering.put_off()

            def on_cut(event: ServerSentEvent | None) -> None:
                pass_on(decoder.feed_unfinished(event))

            def on_error(error: Exception) -> None:
                if lingering.begun:
                    lingering.end()
                else:
                    observer.on_error(closing(error))

            def on_completed() -> None:
                reason = decoder.why_incomplete()
                if lingering.begun or decoder.ended or (accept_clean_end and reason is None):
                    lingering.end()
                else:
                    observer.on_error(closing(IncompleteStreamError(reason)))

            def closing(error: Exception) -> Exception:
                decoder.close()
                if isinstance(error, StreamError):
                    error.partial = decoder.received.response(with_unfinished=True)
                return error

            token = on_truncated_event.set(on_cut)
            try:
                subscription = stream.subscribe(
                    on_next, on_error, on_completed, scheduler=scheduler
                )
            finally:
                on_truncated_event.reset(token)
            return CompositeDisposable(subscription, lingering)

        return Stream(subscribe)

    return operate
