"""The repr of each object, as a debugger, a log or an interactive session shows it."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex
from reactivex import operators as ops

from rxmistral import (
    EventStream,
    Limit,
    Mistral,
    MistralError,
    Outcome,
    Stream,
    sentences,
    shared,
    snapshots,
    text,
)
from rxmistral.testing import ScriptedServer, steps

LONG = "x" * 1000
HELLO = [steps.role(), "Hel", "lo", steps.finish(usage=(3, 2)), steps.done()]


def ask(client: Mistral, **more: Any) -> EventStream:
    messages = [{"role": "user", "content": "a secret question"}]
    return client.chat.stream(**{"model": "m", "messages": messages, **more})


@pytest.fixture
def stream() -> EventStream:
    """A stream whose request would fail: its repr must not send it."""
    return ask(Mistral("the-key", server_url="http://127.0.0.1:9"))


def test_client_repr_shows_the_server_and_no_key() -> None:
    client = Mistral("the-key", server="eu")
    assert repr(client) == "Mistral(server_url='https://api.eu.mistral.ai')"
    assert repr(client.chat) == f"<Chat of {client!r}>"


def test_stream_repr_shows_the_source_without_a_request(stream: EventStream) -> None:
    shown = "<EventStream model='m', not sent>"
    assert repr(stream) == shown
    for piped in (stream.pipe(snapshots()), stream.map(id), stream.pipe(ops.take(1))):
        assert repr(piped) == f"<Stream of {shown}>"
    for piped in (stream.text(), stream.pipe(text(), sentences())):
        assert repr(piped) == f"<TextStream of {shown}>"
    assert repr(stream.until_finished()) == f"<CompletionStream of {shown}>"
    assert repr(stream) == shown


def test_stream_repr_shows_no_key(stream: EventStream) -> None:
    asked = ask(Mistral("k"), http_headers={"Authorization": "the-key"})
    for shown in map(repr, (stream, stream._call, asked, asked._call)):
        assert "the-key" not in shown
        assert "secret" not in shown


def test_stream_repr_without_a_known_source() -> None:
    assert repr(Stream.of(reactivex.of(1))) == "<Stream>"


def test_event_stream_repr_follows_the_latest_request() -> None:
    with ScriptedServer(["Hi", steps.hang()], HELLO, [steps.abort()]) as server:
        stream = ask(Mistral(server_url=server.url), model="m" * 1000)
        assert len(repr(stream)) < 200
        stream = ask(Mistral(server_url=server.url))
        events = iter(stream)
        next(events)
        assert repr(stream) == "<EventStream model='m', running>"
        stream.close()
        assert repr(stream) == "<EventStream model='m', cancelled>"
        list(stream)
        assert repr(stream) == "<EventStream model='m', completed>"
        with pytest.raises(MistralError):
            stream.run()
        assert repr(stream) == "<EventStream model='m', failed>"
        assert len(server.requests) == 3


def test_shared_stream_repr_counts_items_and_viewers(stream: EventStream) -> None:
    source: reactivex.Subject[int] = reactivex.Subject()
    tokens = Stream.of(source).shared()
    assert repr(tokens) == "<SharedStream 0 items, 0 viewers, not begun>"
    viewer = tokens.subscribe()
    source.on_next(1)
    assert repr(tokens) == "<SharedStream 1 items, 1 viewers, running>"
    viewer.dispose()
    assert repr(tokens) == "<SharedStream 1 items, 0 viewers, running>"
    source.on_completed()
    assert repr(tokens) == "<SharedStream 1 items, 0 viewers, ended>"
    cancelled = stream.pipe(shared())
    cancelled.stop()
    assert repr(cancelled) == "<SharedStream 0 items, 0 viewers, StoppedError>"


def test_outcome_repr_is_short() -> None:
    with ScriptedServer(HELLO, [LONG, steps.error(LONG)]) as server:
        client = Mistral(server_url=server.url)
        whole, broken = ask(client), ask(client)
        whole.run()
        with pytest.raises(MistralError):
            broken.run()
    assert repr(whole.outcome) == (
        "<Outcome status='completed', finish_reason='stop', content='Hello', tokens=5, requests=1>"
    )
    assert isinstance(broken.outcome, Outcome)
    shown = repr(broken.outcome)
    assert shown.startswith("<Outcome status='reported', finish_reason=None, error=ReportedError(")
    assert len(shown) < 400


def test_limit_repr_counts_slots() -> None:
    assert repr(Limit(per_minute=2)) == "<Limit per_minute=2 (0 waiting)>"
    limit = Limit(concurrent=3, per_minute=60)
    with ScriptedServer(["Hi", steps.hang()]) as server:
        tokens = iter(ask(Mistral(server_url=server.url), limit=limit).pipe(text()))
        next(tokens)
        assert repr(limit) == (
            "<Limit concurrent=3 (1 in use, 0 waiting), per_minute=60 (0 waiting)>"
        )
        tokens.close()
