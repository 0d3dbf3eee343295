r"""A Stream to Server-Sent Events (WHATWG HTML 9.2), which `EventSource` reads.

    : heartbeat                  at once, and after each interval of silence

    id: 1
    data: "Hel"                  an item, as JSON: it holds no line end, whatever is in it

    id: 2
    data: "lo"

    event: end
    id: 2                        the end is no item: it has the id of the last one
    retry: 86400000
    data: {"status":"completed"}

An `EventSource` takes the end of the response for a broken connection, and asks again
after some seconds, with the id that it saw last: where the page does not `close()` at the
event `end`, it would ask for ever, and pay for an answer each time. So the end says to
wait for a day; and who resumes at the end's id receives the end again, and nothing else.
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
from .encoder import Encoder, encoded_by, payload
from .endings import Describe, described, ending_of
from .heartbeats import HEARTBEAT, with_heartbeats
from .numbering import Resumable, entries_of, resume_position

__all__ = ["SSE_HEADERS", "EventEncoder", "server_sent_events"]

SSE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",  # compression would hold events back
    "X-Accel-Buffering": "no",  # so would nginx
}
"""What to send with `server_sent_events`."""

_A_DAY = 24 * 60 * 60 * 1000  # milliseconds

_json = msgspec.json.Encoder().encode


class EventEncoder(Encoder[Entry[Any], bytes]):
    """Encodes items, each as one event.

    Args:
        after: The id that the first of them comes after.
        describe: As of `server_sent_events`.
    """

    def __init__(self, after: int, describe: Describe) -> None:
        self._last_id = after
        self._describe = describe

    def begin(self) -> bytes:
        return HEARTBEAT  # headers leave many servers with the first byte of the body only

    def encode(self, entry: Entry[Any]) -> bytes:
        data = _json(payload(entry.item))
        self._last_id = entry.id
        return b"id: %d\ndata: %b\n\n" % (entry.id, data)

    def end(self, error: Exception | None) -> bytes:
        data = _json(ending_of(error, self._describe))
        return b"event: end\nid: %d\nretry: %d\ndata: %b\n\n" % (self._last_id, _A_DAY, data)


def server_sent_events(
    source: Observable[Any] | Resumable[Any],
    *,
    last_event_id: str | None = None,
    heartbeat: float | None = 15.0,
    describe: Describe = described,
    scheduler: abc.SchedulerBase | None = None,
) -> Stream[bytes]:
    r"""A Stream into Server-Sent Events, for the body of a response.

        --"Hel"--"lo"-----------|->
        --id: 1--id: 2--: ------event: end|->

    With Starlette and FastAPI:

        return StreamingResponse(server_sent_events(answer), headers=SSE_HEADERS)

    With Quart, which would read what is iterable on a thread:

        return Response(aiter(server_sent_events(answer)), headers=SSE_HEADERS)

    With Flask, and with `StreamingHttpResponse` Django; in its async views give it
    `aiter(server_sent_events(answer))`, or it would wait for the whole answer:

        return Response(server_sent_events(answer), headers=SSE_HEADERS)

    A client that has gone is missed at once by async servers, and by WSGI
    servers when something is sent: at the second heartbeat at the latest.

    And in the page:

        const events = new EventSource("/answer");
        events.onmessage = ({data}) => show(JSON.parse(data));
        events.addEventListener("end", ({data}) => {
            events.close();  // or it would ask again
            ended(JSON.parse(data).status);
        });

    An `EventSource` asks again by itself when the connection breaks: its URL should name
    something shared or logged, since another request would be another answer.

    Args:
        source: A Stream of anything that msgspec encodes: text becomes a JSON string, a
            Struct an object, a `CompletionEvent` its chunk. Of a `Resumable` the events
            have its ids; else they count from 1.
        last_event_id: What the request's header `Last-Event-ID` says, or None: where to go
            on. The source must be a `Resumable`. What cannot be an id of ours stands for
            the start; a number greater than that of the last item for the end.
        heartbeat: Seconds of silence before a comment is sent, which keeps the connection
            open, and finds out that the client has gone; None for none.
        describe: Gives the message of an error; by default `described`.
        scheduler: Keeps the time of the heartbeats; by default the one of the
            subscription, or else the event loop that reads, or else a `TimeoutScheduler`,
            which has a thread for each response.

    Emits: bytes, each of them whole events, or a comment.
    Completes: after an event of the type `end`, with the id of the last item, and JSON
        with the `status` of the `Outcome`, and where there was an error the name of its
        class as `error` and a `message`.
    Errors: what is no `MistralError`, after that event: the program has a fault.

    Raises:
        ValueError: `last_event_id` is given, and the source is not `Resumable`.

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
    encoded = encoded_by(partial(EventEncoder, after, describe))
    return Stream.of(entries_of(source, after)).pipe(encoded, with_heartbeats(heartbeat, scheduler))
