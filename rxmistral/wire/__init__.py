"""Bytes to events: knows HTTP and Server-Sent Events, knows no Mistral.

    request ──▶ blocks ──▶ lines ──▶ events

`blocks` is the only I/O. `lines` and `events` are operators on any Observable, and
`decode_events` is the two of them without Rx.
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
