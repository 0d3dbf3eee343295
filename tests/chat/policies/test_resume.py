"""Continuing a broken answer: the request, the echo, and the conditions."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from faces import Face
from hypothesis import given
from hypothesis import strategies as st

from rxmistral import (
    CompletionEvent,
    DroppedStreamError,
    Mistral,
    Resume,
    Retry,
    StreamTimeoutError,
    Timeouts,
    UsageInfo,
    text,
    usage,
)
from rxmistral.chat.policies.resume import EchoFilter, can_be_continued, continuation_of
from rxmistral.models import CompletionChunk, decode_hook
from rxmistral.testing import Script, ScriptedServer, steps

MESSAGES = [{"role": "user", "content": "?"}]
decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode


def event(content: Any, finish: str | None = None) -> CompletionEvent:
    choice = {"delta": {"content": content}, "finish_reason": finish}
    return CompletionEvent(data=decode(json.dumps({"choices": [choice]})))


def text_of(events: list[CompletionEvent]) -> str:
    texts: list[str] = []
    for each in events:
        for choice in each.data.choices:
            content = choice.delta.content
            parts = [content] if isinstance(content, str) else content or []
            texts += [
                part if isinstance(part, str) else getattr(part, "text", "") for part in parts
            ]
    return "".join(texts)


def filtered(sent: str, *contents: Any) -> str:
    echo = EchoFilter(sent)
    events = [each for content in contents for each in echo.feed(event(content))]
    return text_of(events + echo.close())


# --- the echo --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "contents", "rest"),
    [
        ("The sky ", ["The sky is"], "is"),
        ("The sky ", ["The sky ", "is"], "is"),
        ("The sky ", ["", "The", " s", "ky", " i", "s"], "is"),
        ("The sky ", ["The sky", " is"], "is"),
        ("The sky ", ["The sky", "is"], "is"),
        ("The sky ", ["is"], "is"),
        ("The sky ", [" is"], " is"),
        ("The sky", [" is"], " is"),
        ("The sky", ["The sky", " is"], " is"),
        ("A list:\n\n", ["A list:", "\n\n- one"], "- one"),
        ("A list:\n\n", ["A list:", "\n", "\n- one"], "- one"),
        ("A list:\n", ["\n- one"], "\n- one"),
        ("The ", ["The", "n again"], "n again"),
        ("  ", ["  x"], "x"),
        ("The sky", ["Th", "at is"], "That is"),
        ("The sky", ["The"], "The"),
        (
            "The sky",
            [[{"type": "text", "text": "The sky"}, {"type": "text", "text": " is"}]],
            " is",
        ),
        ("The sky", [[{"type": "text", "text": "The sk"}], "y is"], " is"),
    ],
)
def test_echo_is_removed_in_every_form(sent: str, contents: list[Any], rest: str) -> None:
    assert filtered(sent, *contents) == rest


@given(
    st.text("ab \n", min_size=1).filter(str.strip),
    st.text("xy").map(lambda rest: "x" + rest),
    st.sets(st.integers(0, 40)),
)
def test_echo_is_removed_at_any_cuts(sent: str, rest: str, cuts: set[int]) -> None:
    answer = sent + rest
    places = [0, *sorted(cut for cut in cuts if cut < len(answer)), len(answer)]
    assert filtered(sent, *(answer[a:b] for a, b in pairwise(places))) == rest


def test_events_after_the_echo_are_unchanged() -> None:
    echo = EchoFilter("a")
    assert [text_of(echo.feed(event("a"))), text_of(echo.feed(event("a")))] == ["", "a"]
    later = event("a")
    assert echo.feed(later) == [later]


def test_finish_reason_is_not_buffered() -> None:
    echo = EchoFilter("The sky")
    (last,) = echo.feed(event("", finish="stop"))
    assert last.data.choices[0].finish_reason == "stop"


def test_second_role_is_removed() -> None:
    echo = EchoFilter("The sky")
    assert echo.feed(event("")) == []
    assert [text_of([each]) for each in echo.feed(event("The sky is"))] == [" is"]


# --- the request ----------------------------------------------------------------


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()


def test_text_so_far_is_the_prefix_of_the_next_request() -> None:
    sent, echo = continuation_of(body(temperature=0.1, seed=12345678901234567890), "The sky ")
    assert json.loads(sent) == {
        "model": "m",
        "messages": [*MESSAGES, {"role": "assistant", "content": "The sky ", "prefix": True}],
        "temperature": 0.1,
        "seed": 12345678901234567890,
    }
    assert echo == "The sky "


@pytest.mark.parametrize("echoed", [True, False])
def test_prefix_of_the_request_is_kept(echoed: bool) -> None:
    asked = {"role": "assistant", "content": "Sure: ", "prefix": True}
    answer = "Sure: the sky" if echoed else "the sky"
    sent, echo = continuation_of(body(messages=[*MESSAGES, asked]), answer)
    assert json.loads(sent)["messages"] == [*MESSAGES, {**asked, "content": "Sure: the sky"}]
    assert echo == "Sure: the sky"


@pytest.mark.parametrize(
    ("fields", "structured", "can"),
    [
        ({}, False, True),
        ({"n": 1}, False, True),
        ({"n": None}, False, True),
        ({"n": 2}, False, False),
        ({"response_format": {"type": "text"}}, False, True),
        ({"response_format": {"type": "json_object"}}, False, False),
        ({"response_format": {"type": "json_schema"}}, True, True),
    ],
)
def test_can_be_continued_depends_on_the_request(
    fields: dict[str, Any], structured: bool, can: bool
) -> None:
    assert can_be_continued(body(**fields), structured) is can


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"attempts": "1"}, {"on_resume": 1}])
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        Resume(**wrong)


# --- with a server ------------------------------------------------------------------


def ask(*scripts: Script, requests: int, read: Face, **options: Any) -> list[Any]:
    with ScriptedServer(*scripts) as server:
        with Mistral(server_url=server.url) as client:
            stream = client.chat.stream(model="m", messages=MESSAGES, **options)
            received = read(stream.pipe(text()))
        assert len(server.requests) == requests
        return received


END: Script = [steps.finish(), steps.done()]


@pytest.mark.parametrize("broken", [steps.drop(), steps.abort(), steps.error("busy"), steps.end()])
def test_resumed_answer_has_no_seam(broken: Any, read: Face) -> None:
    received = ask(
        ["The ", "sky ", broken],
        [steps.role(), "The sky ", "is", " blue.", *END],
        requests=2,
        read=read,
        resume=Resume(),
    )
    assert "".join(received) in ("The sky is blue.", " blue.")


def test_gap_timeout_is_resumed(read: Face) -> None:
    received = ask(
        ["The sky ", steps.hang()],
        ["is blue.", *END],
        requests=2,
        read=read,
        resume=Resume(),
        timeouts=Timeouts(gap=0.5),
    )
    assert received[-1] == "is blue."


def test_attempts_bounds_the_continuations(read: Face) -> None:
    seen: list[Any] = []
    resume = Resume(attempts=2, on_resume=lambda *what: seen.append(what))
    *_, error = ask(
        ["a", steps.drop()],
        ["b", steps.drop()],
        ["c", steps.drop()],
        requests=3,
        read=read,
        resume=resume,
    )
    assert isinstance(error, DroppedStreamError)
    assert error.partial is not None
    assert error.partial.choices[0].message.content == "abc"  # type: ignore[union-attr]
    assert [(type(each), number) for each, number in seen] == [
        (DroppedStreamError, 1),
        (DroppedStreamError, 2),
    ]
    assert seen[0][0].partial.choices[0].message.content == "a"


def test_refused_continuation_raises_the_break(read: Face) -> None:
    *_, error = ask(
        ["The ", steps.drop()],
        [steps.status(400, body={"message": "no prefix here"})],
        requests=2,
        read=read,
        resume=Resume(attempts=3),
    )
    assert isinstance(error, DroppedStreamError)
    assert "no prefix here" in error.__notes__[0]


def test_request_of_a_continuation_is_retried(read: Face) -> None:
    received = ask(
        ["The ", steps.drop()],
        [steps.status(503, body={})],
        ["The ", "sky", *END],
        requests=3,
        read=read,
        resume=Resume(),
        retry=Retry(initial=0.001),
    )
    assert received[-1] == "sky"


def test_partial_echo_is_hidden_when_it_breaks_again(read: Face) -> None:
    *received, error = ask(
        ["The sky ", steps.drop()],
        ["The ", steps.drop()],
        requests=2,
        read=read,
        resume=Resume(),
    )
    assert "".join(received) in ("The sky ", "")
    assert isinstance(error, DroppedStreamError)
    assert error.partial is not None
    assert error.partial.choices[0].message.content == "The sky "  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("script", "options"),
    [
        (["a", steps.tool_call(name="f", arguments='{"x"'), steps.drop()], {}),
        ([steps.thinking("Hm"), steps.drop()], {}),
        (["a", steps.drop()], {"response_format": {"type": "json_object"}}),
        (["a", steps.drop()], {"n": 2}),
        (["a", steps.raw(b"data: {\n\n")], {}),
        (["a", steps.drop()], {"resume": None}),
    ],
)
def test_break_is_not_resumed(script: Script, options: dict[str, Any], read: Face) -> None:
    *_, error = ask(script, requests=1, read=read, **{"resume": Resume(), **options})
    assert isinstance(error, Exception)


def test_total_timeout_ends_the_continuations(read: Face) -> None:
    *_, error = ask(
        ["a", steps.hang()],
        [steps.hang()],
        requests=2,
        read=read,
        resume=Resume(attempts=5),
        timeouts=Timeouts(gap=0.4, total=1.5),
    )
    assert isinstance(error, StreamTimeoutError)


def test_structured_resumes_json(read: Face) -> None:
    received = ask(
        ['{"a":', steps.drop()],
        [" 1}", *END],
        requests=2,
        read=read,
        resume=Resume(structured=True),
        response_format={"type": "json_object"},
    )
    assert received[-1] == " 1}"


def test_usage_is_summed_over_continuations() -> None:
    scripts: list[Script] = [
        ["a", steps.usage(3, 1), steps.drop()],
        ["b", *END[:1], steps.usage(4, 2), steps.done()],
    ]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES, resume=Resume())
        spent = stream.pipe(usage()).run()
        assert (spent.prompt_tokens, spent.completion_tokens, spent.total_tokens) == (7, 3, 10)
        outcome = stream.outcome
        assert outcome is not None
        assert isinstance(outcome.usage, UsageInfo)
        assert outcome.usage.total_tokens == 10
        assert (outcome.requests, outcome.resumed, outcome.usage_is_exact) == (2, 1, False)
        assert outcome.response.choices[0].message.content == "ab"  # type: ignore[union-attr]
