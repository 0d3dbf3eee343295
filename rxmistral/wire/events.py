"""Lines to events: what the lines of an event stream mean.

WHATWG HTML, 9.2.6 "Interpreting an event stream":
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

`EventDecoder` follows the standard to the letter. `events()` differs in three cases, because
the standard would discard something that matters:

    a bare line of JSON with an error   the standard: an unknown field; raised as `ReportedError`
    an error event that is truncated    the standard: discarded; raised as `ReportedError`
    any other truncated event           discarded, but passed to `on_truncated_event`

The last is for a subscriber that knows from HTTP that the body is complete: in that case only
the blank line may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

import msgspec
from reactivex import Observable, abc

from ..errors import ProtocolError, reported_error
from ..rx.state_machine import InputType, operate
from ..rx.stream import Stream
from .lines import MAX_EVENT_BYTES, LineDecoder, check_max_bytes

__all__ = [
    "EventDecoder",
    "LineObserver",
    "ServerSentEvent",
    "decode_events",
    "events",
    "on_truncated_event",
]

_FIELDS = (b"data", b"event", b"id")
_MAX_RETRY_DIGITS = 640  # int() may be set to refuse more, but never fewer


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of an event stream.

    Attributes:
        event: The type of the event; "message" if the stream names none.
        data: The data lines, joined by LF.
        id: The last event ID that the stream sent, with this event or an earlier one.
        retry: Milliseconds to wait before connecting again; None if this event has no
            `retry` field.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None


on_truncated_event: ContextVar[Callable[[ServerSentEvent | None], None] | None] = ContextVar(
    "rxmistral_on_truncated_event", default=None
)
"""A callback for the next subscription to `events()` in this context.

It is called before the completion of a stream that ended within an event: with that event, or
with None if none of its data had arrived."""


class EventDecoder:
    """Combines lines into events.

    Args:
        max_bytes: The most data in one event, in bytes; default: 16 MiB.

    Attributes:
        unknown: The latest line with a field that the standard does not define.
        begun: Whether the current event has a line other than a data line.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._data: list[bytes] = []
        self._bytes_left = max_bytes + 1  # each data line counts with its LF, also the last
        self._event = "message"
        self._id = ""
        self._retry: int | None = None
        self.unknown: str | None = None
        self.begun = False

    def feed(self, line: bytes) -> ServerSentEvent | None:
        """Returns the event that this line ends, or None if it does not end one.

        Raises:
            ProtocolError: The event has more than `max_bytes` of data.
        """
        if not line:
            return self._dispatch()
        if line[:6] == b"data: ":  # nearly every line that is not blank
            self._data.append(line[6:])
            self._bytes_left -= len(line) - 5
        else:
            self._process(line)
        if self._bytes_left < 0:
            raise ProtocolError(
                f"an event of the stream is larger than {self._max_bytes} bytes; "
                "allow more with max_event_bytes"
            )
        return None

    def close(self) -> ServerSentEvent | None:
        """Returns the data of an unfinished event, or None if there is none.

        The standard does not dispatch it: "Once the end of the file is reached, any pending
        data must be discarded." (9.2.6)
        """
        return self._dispatch()

    def _process(self, line: bytes) -> None:
        # "If the line starts with a U+003A COLON character (:): Ignore the line."
        # "If value starts with a U+0020 SPACE character, remove it from value."
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        # The end of the stream may have truncated the field name.
        self.begun = self.begun or any(name.startswith(field or b":") for name in _FIELDS)
        if field == b"data":
            self._data.append(value)
            self._bytes_left -= len(value) + 1
        elif field == b"event":
            # An event with an empty type is dispatched as a "message".
            self._event = value.decode("utf-8", "replace") or "message"
        elif field == b"id":
            # "If the field value does not contain U+0000 NULL"
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif field == b"retry":
            # "If the field value consists of only ASCII digits"
            if value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                self._retry = int(value)
        elif field:
            self.unknown = line.decode("utf-8", "replace")

    def _dispatch(self) -> ServerSentEvent | None:
        # "If the data buffer is an empty string, set the data buffer and the event
        # type buffer to the empty string and return." One data line, even an empty
        # one, makes the buffer at least a LF.
        event = None
        if self._data:
            text = b"\n".join(self._data).decode("utf-8", "replace")
            event = ServerSentEvent(self._event, text, self._id, self._retry)
            self._data.clear()
            self._bytes_left = self._max_bytes + 1
        self._event = "message"
        self._retry = None
        self.begun = False
        return event


def decode_events(
    blocks: Iterable[bytes], *, max_bytes: int = MAX_EVENT_BYTES
) -> Iterator[ServerSentEvent]:
    """Yields the events of an event stream, without Rx.

    Args:
        blocks: The bytes of the stream, in pieces of any size.
        max_bytes: The most data in one event, in bytes; default: 16 MiB.

    Raises:
        ProtocolError: An event or a line is larger than `max_bytes`.

    >>> [event.data for event in decode_events([b"data: a\\n\\nda", b"ta: b\\n\\n"])]
    ['a', 'b']
    """
    check_max_bytes(max_bytes)
    line_decoder, event_decoder = LineDecoder(max_bytes), EventDecoder(max_bytes)
    for block in blocks:
        yield from filter(None, map(event_decoder.feed, line_decoder.feed(block)))
        if line_decoder.error is not None:
            raise line_decoder.error


_INPUT = InputType("events", bytes, "raw lines", {"ServerSentEvent": "leave one events() out"})


def events(
    *, max_bytes: int = MAX_EVENT_BYTES
) -> Callable[[Observable[bytes]], Stream[ServerSentEvent]]:
    """Raw lines into the events that they form.

        --"data: a"--""----":"--"data: b"--|->
        -------------a---------------------|->

    Args:
        max_bytes: The most data in one event, in bytes; default: 16 MiB.

    Emits: each event at its blank line; an event that the end truncated is discarded.
    Errors: `ProtocolError` for an event larger than `max_bytes`; `ReportedError` for an error
        that a server wrote as a bare line, or as an event that the end truncated.
    Source: WHATWG HTML, 9.2.6.

    >>> import reactivex
    >>> Stream.of(reactivex.of(b"data: a", b"", b"data: b")).pipe(events()).run().data
    'a'
    """
    check_max_bytes(max_bytes)

    def subscribe_to(
        stream: Stream[bytes],
        observer: abc.ObserverBase[ServerSentEvent],
        scheduler: abc.SchedulerBase | None,
    ) -> abc.DisposableBase:
        line_observer = LineObserver(observer, max_bytes, on_truncated_event.get())
        token = on_truncated_event.set(None)  # the source may contain an events() of another stream
        try:
            return stream.subscribe(line_observer, scheduler=scheduler)
        finally:
            on_truncated_event.reset(token)

    return operate(subscribe_to)


class LineObserver(abc.ObserverBase[bytes]):
    """Receives the lines of one subscription, and emits their events."""

    __slots__ = ("_decoder", "_emit", "_feed", "_observer", "_on_truncated")

    def __init__(
        self,
        observer: abc.ObserverBase[ServerSentEvent],
        max_bytes: int,
        on_truncated: Callable[[ServerSentEvent | None], None] | None,
    ) -> None:
        self._observer = observer
        self._decoder = EventDecoder(max_bytes)
        self._on_truncated = on_truncated
        self._feed, self._emit = self._decoder.feed, observer.on_next

    def on_next(self, value: object) -> None:
        try:
            if not isinstance(value, bytes):
                raise _INPUT.error_for(value)
            event = self._feed(value)
        except (TypeError, ProtocolError) as error:
            self._observer.on_error(error)
            return
        if event is not None:
            self._emit(event)
        elif (unknown := self._decoder.unknown) is not None:
            self._decoder.unknown = None
            reported = reported_error(unknown)  # `{"error": ...}` without `data:` before it
            if reported is not None:
                self._observer.on_error(reported)

    def on_error(self, error: Exception) -> None:
        event = self._decoder.close()
        reported = reported_error(event.data, event.event) if event else None
        if reported is not None:
            reported.__cause__ = error
        self._observer.on_error(reported or error)

    def on_completed(self) -> None:
        begun, event = self._decoder.begun, self._decoder.close()
        reported = reported_error(event.data, event.event) if event else None
        if reported is not None:
            self._observer.on_error(reported)
            return
        if self._on_truncated is not None and (begun or event is not None):
            self._on_truncated(event)
        self._observer.on_completed()
