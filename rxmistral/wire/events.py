"""Lines to events: what an event stream means.

WHATWG HTML, 9.2.6 "Interpreting an event stream":
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

Two things here go beyond the standard, and only where it would throw an error message
away. Servers that fail in the middle of an answer write their error as a bare line of
JSON, or break off before the blank line of the frame that holds it; for the standard
the first is a field it does not know and the second an event that never ended.
`events()` raises both as `ReportedError`; the decoder itself keeps to the letter.

The standard also discards an event that the end of the stream cut short. `events()` does so
too, but passes it to the subscriber that set `incomplete_event_handler`: if HTTP says that the
body is whole, only a blank line may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

import msgspec
from reactivex import Observable, abc

from ..errors import ProtocolError, ReportedError, reported_error
from ..rx.input_type import InputType
from ..rx.stream import Stream
from .lines import MAX_EVENT_BYTES, LineDecoder, check_max_bytes

__all__ = ["EventDecoder", "ServerSentEvent", "decode_events", "events", "incomplete_event_handler"]

_FIELDS = (b"data", b"event", b"id")
_MAX_RETRY_DIGITS = 640  # int() may be set to refuse more, but never fewer


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of an event stream.

    Attributes:
        event: Its type, "message" where the stream names none.
        data: Its data lines, joined by LF.
        id: The last event ID that the stream gave, in this event or before.
        retry: How long to wait before connecting again, in milliseconds, where this
            event says so.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None


incomplete_event_handler: ContextVar[Callable[[ServerSentEvent | None], None] | None] = ContextVar(
    "rxmistral_incomplete_event_handler", default=None
)
"""Set while `events()` is subscribed to: called before the completion of a stream that ended
inside an event, with that event, or None if no data of it had arrived."""


class EventDecoder:
    """Gathers lines into events.

    Args:
        max_bytes: An event with more data than this raises `ProtocolError`.

    Attributes:
        unknown: The last line whose field has no meaning.
        begun: Whether an event has begun, with another line than one of data.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._data: list[bytes] = []
        self._room = max_bytes + 1  # each line of data takes its LF, the last one too
        self._event = "message"
        self._id = ""
        self._retry: int | None = None
        self.unknown: str | None = None
        self.begun = False

    def feed(self, line: bytes) -> ServerSentEvent | None:
        """The event that this line ends, if it ends one."""
        if not line:
            return self._dispatch()
        if line[:6] == b"data: ":  # nearly every line that is not blank
            self._data.append(line[6:])
            self._room -= len(line) - 5
        else:
            self._process(line)
        if self._room < 0:
            raise ProtocolError(
                f"an event of the stream is larger than {self._max_bytes} bytes; "
                "allow more with max_event_bytes"
            )
        return None

    def close(self) -> ServerSentEvent | None:
        """What the end of the stream cut short, if it had data.

        It is no event: 9.2.6, "Once the end of the file is reached, any pending data
        must be discarded."
        """
        return self._dispatch()

    def _process(self, line: bytes) -> None:
        # "If the line starts with a U+003A COLON character (:): Ignore the line."
        # "If value starts with a U+0020 SPACE character, remove it from value."
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        # The end of the stream may have cut the field's name.
        self.begun = self.begun or any(name.startswith(field or b":") for name in _FIELDS)
        if field == b"data":
            self._data.append(value)
            self._room -= len(value) + 1
        elif field == b"event":
            # An empty type is no type: the event is a "message".
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
            self._room = self._max_bytes + 1
        self._event = "message"
        self._retry = None
        self.begun = False
        return event


def decode_events(
    blocks: Iterable[bytes], *, max_bytes: int = MAX_EVENT_BYTES
) -> Iterator[ServerSentEvent]:
    """The events of an event stream, from its bytes in any pieces; without Rx.

    Args:
        blocks: The bytes, as they come.
        max_bytes: The most data that one event may have, in bytes.

    Raises:
        ProtocolError: An event or a line is larger than `max_bytes`.

    >>> [event.data for event in decode_events([b"data: a\\n\\nda", b"ta: b\\n\\n"])]
    ['a', 'b']
    """
    check_max_bytes(max_bytes)
    line_decoder, event_decoder = LineDecoder(max_bytes), EventDecoder(max_bytes)
    for block in blocks:
        for line in line_decoder.feed(block):
            event = event_decoder.feed(line)
            if event is not None:
                yield event
        if line_decoder.error is not None:
            raise line_decoder.error


_TAKES = InputType("events", bytes, "raw lines", {"ServerSentEvent": "leave one events() out"})


def events(
    *, max_bytes: int = MAX_EVENT_BYTES
) -> Callable[[Observable[bytes]], Stream[ServerSentEvent]]:
    """Raw lines into the events they make up.

        --"data: a"--""----":"--"data: b"--|->
        -------------a---------------------|->

    Args:
        max_bytes: The most data that one event may have, in bytes.

    Emits: each event as its blank line comes; one that the end cut short is dropped.
    Errors: `ProtocolError` for an event larger than `max_bytes`; `ReportedError` for
        an error that a server wrote beside the events, or broke off in.
    Source: WHATWG HTML, 9.2.6.

    >>> import reactivex
    >>> Stream.of(reactivex.of(b"data: a", b"", b"data: b")).pipe(events()).run().data
    'a'
    """
    check_max_bytes(max_bytes)

    def operate(source: Observable[bytes]) -> Stream[ServerSentEvent]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[ServerSentEvent],
            scheduler: abc.SchedulerBase | None = None,
        ) -> abc.DisposableBase:
            decoder = EventDecoder(max_bytes)
            feed, emit = decoder.feed, observer.on_next
            on_cut = incomplete_event_handler.get()

            def on_next(line: object) -> None:
                if not isinstance(line, bytes):
                    observer.on_error(_TAKES.error_for(line))
                    return
                try:
                    event = feed(line)
                    if event is None:
                        if decoder.unknown is not None:
                            _raise_reported(decoder)
                        return
                except (ProtocolError, ReportedError) as error:
                    observer.on_error(error)
                else:
                    emit(event)

            def on_error(error: Exception) -> None:
                reported = _reported(decoder.close())
                if reported is None:
                    observer.on_error(error)
                else:
                    reported.__cause__ = error
                    observer.on_error(reported)

            def on_completed() -> None:
                begun, event = decoder.begun, decoder.close()
                reported = _reported(event)
                if reported is not None:
                    observer.on_error(reported)
                    return
                if on_cut is not None and (begun or event is not None):
                    on_cut(event)
                observer.on_completed()

            # what the source subscribes to is another stream
            token = incomplete_event_handler.set(None)
            try:
                return stream.subscribe(on_next, on_error, on_completed, scheduler=scheduler)
            finally:
                incomplete_event_handler.reset(token)

        return Stream(subscribe)

    return operate


def _raise_reported(decoder: EventDecoder) -> None:
    """An error as a bare line of JSON: `{"error": ...}` where `data: {...}` belongs."""
    line, decoder.unknown = decoder.unknown, None
    reported = reported_error(line or "")
    if reported is not None:
        raise reported


def _reported(event: ServerSentEvent | None) -> ReportedError | None:
    """An error whose frame broke off before its blank line."""
    return None if event is None else reported_error(event.data, event.event)
