r"""A Stream as Server-Sent Events (WHATWG HTML 9.2), which `EventSource` reads.

    : heartbeat                  at once, and after each silent interval

    id: 1
    data: "Hel"                  an item as JSON, which never contains a line end

    id: 2
    data: "lo"

    event: end
    id: 2                        the id of the last item, since the ending is not an item
    retry: 86400000
    data: {"status":"completed"}

An `EventSource` treats the end of the response as a broken connection, and reconnects after
some seconds with the last id that it has seen. A page that does not `close()` it at the event
`end` would reconnect again and again, and pay for an answer each time. To prevent this, the
ending sets the reconnection time to a day. A client that resumes at the id of the ending
receives the ending again, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from reactivex import Observable, abc

from ..checks import check_callback
from ..rx.history import Entry
from ..rx.stream import Stream
from .encoder import Encoder, encoder_operator, payload
from .endings import Describe, described, ending_of
from .heartbeats import HEARTBEAT, with_heartbeats
from .resumption import Resumable, entries_after, resume_position

__all__ = ["SSE_HEADERS", "EventEncoder", "server_sent_events"]

SSE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",  # compression would delay events
    "X-Accel-Buffering": "no",  # buffering in nginx would, too
}
"""The headers of a response whose body is made by `server_sent_events`."""

_RETRY_MILLISECONDS = 24 * 60 * 60 * 1000

_json = msgspec.json.Encoder().encode


class EventEncoder(Encoder[Entry[Any], bytes]):
    """Encodes each item as one event.

    Args:
        after: The id of the item before the first.
        describe: Returns the description of an error.
    """

    def __init__(self, after: int, describe: Describe) -> None:
        self._last_id = after
        self._describe = describe

    def begin(self) -> bytes:
        return HEARTBEAT  # many servers send the headers together with the first byte

    def encode(self, entry: Entry[Any]) -> bytes:
        data = _json(payload(entry.item))
        self._last_id = entry.id
        return b"id: %d\ndata: %b\n\n" % (entry.id, data)

    def end(self, error: Exception | None) -> bytes:
        fields = (self._last_id, _RETRY_MILLISECONDS, _json(ending_of(error, self._describe)))
        return b"event: end\nid: %d\nretry: %d\ndata: %b\n\n" % fields


def server_sent_events(
    source: Observable[Any] | Resumable[Any],
    *,
    last_event_id: str | None = None,
    heartbeat: float | None = 15.0,
    describe: Describe = described,
    scheduler: abc.SchedulerBase | None = None,
) -> Stream[bytes]:
    r"""Items into Server-Sent Events, for the body of a response.

        --"Hel"--"lo"-----------|->
        --id: 1--id: 2--: ------event: end|->

    With Starlette and FastAPI:

        return StreamingResponse(server_sent_events(answer), headers=SSE_HEADERS)

    With Quart, which would iterate over an iterable body on a thread:

        return Response(aiter(server_sent_events(answer)), headers=SSE_HEADERS)

    With Flask; and with Django as `StreamingHttpResponse`, which in async views needs
    `aiter(server_sent_events(answer))`, or it would wait for the whole answer:

        return Response(server_sent_events(answer), headers=SSE_HEADERS)

    Async servers notice at once that a client has disconnected. WSGI servers notice when they
    send something: at the second heartbeat at the latest.

    In the page:

        const events = new EventSource("/answer");
        events.onmessage = ({data}) => show(JSON.parse(data));
        events.addEventListener("end", ({data}) => {
            events.close();  // otherwise it reconnects
            ended(JSON.parse(data).status);
        });

    An `EventSource` reconnects by itself when the connection breaks. Its URL should identify
    a shared or logged run, since another request would produce another answer.

    Args:
        source: A Stream of anything that msgspec encodes: text becomes a JSON string, a
            Struct an object, a `CompletionEvent` its chunk. The events have the ids of a
            `Resumable`; otherwise they are counted from 1.
        last_event_id: The header `Last-Event-ID` of the request, after which to resume, or
            None. The source must be a `Resumable`. A value that cannot be an id stands for
            the start, a number greater than that of the last item stands for the end.
        heartbeat: Seconds of silence before a comment is sent, which keeps the connection
            open and detects that the client has disconnected; None: no comments.
        describe: Returns the message of an error; default: `described`.
        scheduler: Keeps the time of the heartbeats. Default: the scheduler of the
            subscription, or else the event loop that reads, or else a `TimeoutScheduler`,
            which uses a thread per response.

    Emits: bytes, each of them whole events, or a comment.
    Completes: after an event of type `end`. It has the id of the last item, and as JSON the
        `status` of the `Outcome`; after an error also the name of its class as `error`, and
        a `message`.
    Errors: with any error that is not a `MistralError`, after that event: it is a fault of
        the program.

    Raises:
        ValueError: `last_event_id` is given, but the source is not `Resumable`.

    >>> import reactivex
    >>> body = server_sent_events(reactivex.of("Hel", "lo"), heartbeat=None)
    >>> print(b"".join(body).decode(), end="")
    : heartbeat
    <BLANKLINE>
    id: 1
    data: "Hel"
    <BLANKLINE>
    id: 2
    data: "lo"
    <BLANKLINE>
    event: end
    id: 2
    retry: 86400000
    data: {"status":"completed"}
    <BLANKLINE>
    """
    check_callback("describe", describe)
    after = resume_position(source, last_event_id)
    encoded = encoder_operator(partial(EventEncoder, after, describe))
    entries = Stream.of(entries_after(source, after))
    return entries.pipe(encoded, with_heartbeats(heartbeat, scheduler))
