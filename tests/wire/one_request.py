"""One request to a scripted server, as the tests of the reader send it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rxmistral.errors import MistralError
from rxmistral.rx.stream import Stream
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.sender import post

BODY = [b"data: one\n\n", b"data: two\n\n"]
ANSWER: Script = [steps.raw(*BODY)]
KEY = "sk-3141592653589793"


def ask(server: ScriptedServer, **options: Any) -> Stream[bytes]:
    return blocks(post(server.url + "/v1", {}, b'{"q":1}', f"Bearer {KEY}"), **options)


def body_of(*script: Any, **framing: Any) -> bytes:
    with ScriptedServer(script, **framing) as server:
        return b"".join(ask(server))


def error_of(*script: Any, **options: Any) -> MistralError:
    framing = {"framing": options.pop("framing")} if "framing" in options else {}
    with ScriptedServer(script, **framing) as server, pytest.raises(MistralError) as raised:
        list(ask(server, **options))
    return raised.value


class RecordingObserver:
    """An observer that records the items and terminals of a Stream.

    Attributes:
        terminals: The errors, and None for each completion.
        ended: Set by the first terminal.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.terminals: list[Exception | None] = []
        self.ended = threading.Event()

    def on_next(self, item: Any) -> None:
        self.items.append(item)

    def on_error(self, error: Exception) -> None:
        self.terminals.append(error)
        self.ended.set()

    def on_completed(self) -> None:
        self.terminals.append(None)
        self.ended.set()
