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
some seconds. A page that does not `close()` it at the event `end` would request answers again
and again, so the ending sets the reconnection time to a day. A client that resumes at the id of
the ending receives only the ending again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from reactivex import Observable, abc

from ..checks import check_callback
from ..models import as_sent
from ..rx.history import Entry
from ..rx.stream import Stream
from .encoder import Describe, Encoder, described, encoder_operator, ending_fields
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
    def __init__(self, after: int, describe: Describe) -> None:
        self._last_id = after
        self._describe = describe

    def begin(self) -> bytes:
        return HEARTBEAT  # many servers send the headers together with the first byte

    def encode(self, entry: Entry[Any]) -> bytes:
        data = _json(as_sent(entry.item))
        self._last_id = entry.id
        return b"id: %d\ndata: %b\n\n" % (entry.id, data)

    def end(self, error: Exception | None) -> bytes:
        data = _json(ending_fields(error, self._describe))
        head = b"event: end\nid: %d\nretry: %d\n" % (self._last_id, _RETRY_MILLISECONDS)
        return b"%bdata: %b\n\n" % (head, data)


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

    With Starlette and FastAPI; with Flask as `Response`; with Django as `StreamingHttpResponse`:

        return StreamingResponse(server_sent_events(answer), headers=SSE_HEADERS)

    Quart would iterate over this body on a thread, and async views of Django would wait for the
    whole answer, so both need `aiter(server_sent_events(answer))`. Async servers notice at once
    that a client has disconnected; WSGI servers at the second heartbeat at the latest.

    An `EventSource` reconnects by itself, so its URL should identify a shared or logged run
    (another request would produce another answer), and the page should close it at the end:

        const events = new EventSource("/answer");
        events.onmessage = ({data}) => show(JSON.parse(data));
        events.addEventListener("end", ({data}) => {
            events.close();
            ended(JSON.parse(data).status);
        });

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
    Errors: after that event with a fault of the program, which is any error but a
        `MistralError`.

    Raises:
        ValueError: `last_event_id` is given, but the source is not `Resumable`.

    >>> import reactivex
    >>> heartbeat, item, end = server_sent_events(reactivex.of("Hel"), heartbeat=None)
    >>> item
    b'id: 1\ndata: "Hel"\n\n'
    >>> end
    b'event: end\nid: 1\nretry: 86400000\ndata: {"status":"completed"}\n\n'
    """
    check_callback("describe", describe)
    after = resume_position(source, last_event_id)
    encoded = encoder_operator(partial(EventEncoder, after, describe))
    entries = Stream.of(entries_after(source, after))
    return entries.pipe(encoded, with_heartbeats(heartbeat, scheduler))
