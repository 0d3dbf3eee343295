"""A Stream to a browser: Server-Sent Events, WebSocket messages, the AI SDK's messages.

    Stream, or what can be ──▶ numbering ──▶ encoder ──▶ heartbeats ──▶ Stream[bytes] ──▶ a framework
    read again (Resumable)     an id each    sse, ui_messages, websocket                 of any sort

A Stream is an iterable and an async iterable, and so what any web framework takes for the
body of a response. One that is left disposes its source: a client that goes away stops the
generation, where it is not shared. No framework is imported here.
"""

from .endings import described
from .sse import SSE_HEADERS, server_sent_events
from .ui_messages import UI_MESSAGE_HEADERS, ui_message_stream
from .websocket import relay_websocket

__all__ = [
    "SSE_HEADERS",
    "UI_MESSAGE_HEADERS",
    "described",
    "relay_websocket",
    "server_sent_events",
    "ui_message_stream",
]
