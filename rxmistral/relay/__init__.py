"""Relays: a Stream as Server-Sent Events, WebSocket messages, or messages of the AI SDK or AG-UI.

                                    ┌─▶ subscribe, for, async for         this process
    chat.stream() ──▶ shared() ─────┼─▶ server_sent_events() ──▶ EventSource, curl
                                    ├─▶ relay_websocket() ◀───▶ a page that can cancel
                                    ├─▶ ui_message_stream() ──▶ useChat of the AI SDK
                                    ├─▶ agui_events() ────────▶ a client of AG-UI
                                    └─▶ to_log() ──▶ Redis, NATS ──▶ from_log() ──▶ any of these

Any web framework accepts a Stream, which is an iterable and an async iterable, as a body:

    Flask               Response(server_sent_events(tokens), headers=SSE_HEADERS)
    Starlette, FastAPI  StreamingResponse(server_sent_events(tokens), headers=SSE_HEADERS)
    Quart               Response(aiter(server_sent_events(tokens)), headers=SSE_HEADERS)
    Django, async       StreamingHttpResponse(aiter(server_sent_events(tokens)), headers=SSE_HEADERS)
    any WebSocket       await relay_websocket(tokens, websocket.send_text, websocket.receive_text)
    for useChat         StreamingResponse(ui_message_stream(answer), headers=UI_MESSAGE_HEADERS)
    for AG-UI           StreamingResponse(agui_events(answer, **ids), headers=SSE_HEADERS)

A client that disconnects disposes its Stream: that stops the generation, unless it is shared.
Comments keep the connection open while the model is silent. At the event `end`, which carries
the status, the page closes its `EventSource`. A browser whose connection broke requests the URL
again by itself, with `Last-Event-ID`; so let the URL name a shared or logged run, and pass that
header as `last_event_id`. The page receives the text of a `MistralError` (`describe=` rewords
it); for a fault of the program it receives a general text, and the framework logs the exception.

Sharing
-------
`shared()` makes one request, sent when the first viewer subscribes. A late viewer first receives
everything emitted so far, then live items. Leaving (`break`, `dispose()`, a closed tab) ends one
viewer. `stop()` ends the run for all viewers, with `StoppedError`; `linger` is the number of
seconds after which a run without viewers is stopped. `max_items` bounds the memory of an endless
run: a viewer that needs an older item gets `LaggedError`.

A slow viewer delays no other, and an exception in its callback reaches no other. If a viewer
lags, `view("wait")` slows the source, "merge" emits the missing text as one item, "latest" skips
to the last item, "fail" ends it with `LaggedError`. `entries(after=n)` emits items with their ids.

>>> from rxmistral import Mistral, UserMessage, text
>>> client = Mistral.demo()
>>> answer = client.chat.stream(model="any", messages=[UserMessage(content="Count to five.")])
>>> tokens = answer.pipe(text()).shared(linger=30)
>>> next(iter(tokens))  # this viewer leaves; the run goes on
'One,'
>>> "".join(tokens)  # of the same answer, without a second request
'One, two, three, four, five.'
>>> [(entry.id, entry.item) for entry in tokens.entries(after=3)]
[(4, ' four,'), (5, ' five.')]
>>> list(tokens.view("merge"))
['One, two, three, four, five.']

The modules:

    Stream or Resumable ──▶ resumption: ids ──▶ encoder ──▶ heartbeats ──▶ Stream[bytes]
    an answer ──▶ part_encoder: parts ──▶ ui_messages, agui ──▶ heartbeats ──▶ Stream[bytes]
"""

from .agui import agui_events
from .encoder import described
from .sse import SSE_HEADERS, server_sent_events
from .ui_messages import UI_MESSAGE_HEADERS, ui_message_stream
from .websocket import relay_websocket

__all__ = [
    "SSE_HEADERS",
    "UI_MESSAGE_HEADERS",
    "agui_events",
    "described",
    "relay_websocket",
    "server_sent_events",
    "ui_message_stream",
]
