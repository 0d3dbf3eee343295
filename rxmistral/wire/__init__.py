"""Bytes to events: the layer that knows HTTP and Server-Sent Events, but not Mistral.

    request ──▶ blocks ──▶ lines ──▶ events
              `reader`    `lines`   `events`

`blocks()` does all the I/O. `lines()` and `events()` are operators on any Observable, and
`decode_events()` does the work of both without Rx. The way of the bytes through the files:

    sender ───── request with redirects ──▶ response ─── is it an event stream?
       │                                       │
    session      its views and pools           ├─ compressed, or a custom adapter's:
       │                                       │    read on the reader thread
    connection   urllib3's, while leased:      └─ any other: read without waiting, in steps of
                 any thread can cancel them         ├─ asyncio_loop: `async for` and `await`, on
                                                    │    the loop of the program
                                                    └─ event_loop: all others, on one thread
                                                         │
                                                    message_body: chunks, lengths

`idle_timeout` limits every wait for the network. `tls` has the contexts that connections share.
`request_errors` translates the exceptions of requests and urllib3. `taps` lets a recorder observe
each exchange.
"""

from .events import EventDecoder, ServerSentEvent, decode_events, events
from .lines import MAX_EVENT_BYTES, LineDecoder, check_max_bytes, lines
from .reader import blocks

__all__ = [
    "MAX_EVENT_BYTES",
    "EventDecoder",
    "LineDecoder",
    "ServerSentEvent",
    "blocks",
    "check_max_bytes",
    "decode_events",
    "events",
    "lines",
]
