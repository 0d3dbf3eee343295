"""join(): one string for a whole text, on every face."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex
from faces import Face, run
from reactivex import operators as ops

from rxmistral import Mistral, RateLimitError, Stream, UserMessage, join, text
from rxmistral.testing import Script, ScriptedServer, steps


@pytest.mark.parametrize("pieces", [["Hel", "lo"], ["Hello"], ["", "Hello", ""]])
def test_join_emits_the_whole_text_once(pieces: list[str], read: Face) -> None:
    received = read(Stream.of(reactivex.from_iterable(pieces)).pipe(join()))
    assert received[-1:] == ["Hello"]
    assert received.count("Hello") == 1


def test_join_emits_an_empty_string_for_an_empty_answer(read: Face) -> None:
    script: Script = [steps.role(), steps.finish(), steps.done()]
    with ScriptedServer(lambda _: script) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        assert read(answer.pipe(text(), join()))[-1:] == [""]
        assert run(last(answer.pipe(text(), join()))) == ""


async def last(stream: Stream[str]) -> str:
    return await stream


def test_join_emits_the_text_so_far_before_an_error(read: Face) -> None:
    error = KeyError("broke")
    source = reactivex.concat(reactivex.of("Hel", "lo"), reactivex.throw(error))
    assert read(Stream.of(source).pipe(join()))[-2:] == ["Hello", error]


def test_join_emits_nothing_before_a_refusal() -> None:
    received: list[Any] = []
    with ScriptedServer([steps.status(429)]) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        with pytest.raises(RateLimitError):
            answer.pipe(text(), join(), ops.do_action(received.append)).run()
    assert received == []


def test_join_names_the_missing_operator() -> None:
    with pytest.raises(TypeError, match=r"join\(\) takes text, got bytes|a bytes"):
        Stream.of(reactivex.of(b"Hello")).pipe(join()).run()  # type: ignore[arg-type]
