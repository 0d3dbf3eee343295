"""Outcome and ChatCompletionResponse: the whole answer in one word, after every ending."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from reactivex import operators as ops

from rxmistral import (
    AssistantMessage,
    ChatCompletionChoice,
    ChatCompletionResponse,
    FunctionCall,
    Message,
    Mistral,
    MistralError,
    Outcome,
    ReferenceChunk,
    Resume,
    Retry,
    SystemMessage,
    TextChunk,
    ThinkChunk,
    ToolCall,
    ToolMessage,
    UnfinishedToolCall,
    UnknownContentChunk,
    UserMessage,
    on_outcome,
    text,
    thinking,
    to_response,
    tool_calls,
)
from rxmistral.testing import Script, ScriptedServer, steps

MESSAGES = [UserMessage(content="Hi")]
CALL = ToolCall(id="c1", index=0, function=FunctionCall(name="f", arguments="{}"))
UNFINISHED = UnfinishedToolCall(id="c2", index=1, function=FunctionCall(name="g", arguments="{"))


def outcome_of(*scripts: Script, **options: Any) -> Outcome:
    with (
        ScriptedServer(*scripts) as server,
        Mistral("key", server_url=server.url, **options) as client,
    ):
        stream = client.chat.stream(model="m", messages=MESSAGES)
        reported: list[Outcome] = []
        with suppress(MistralError):
            stream.pipe(on_outcome(reported.append)).run()
        outcome = stream.outcome
        assert outcome is not None
        (other,) = reported
        assert (outcome.text, outcome.message, outcome.request_id, outcome.usage_is_final) == (
            (other.text, other.message, other.request_id, other.usage_is_final)
        )
        return outcome


def chunk(
    content: Any = None, *, usage: int | None = None, finish: str | None = None, calls: Any = None
) -> Any:
    data: dict[str, Any] = {
        "model": "m-2",
        "choices": [
            {
                "index": 0,
                "delta": {"content": content, "tool_calls": calls},
                "finish_reason": finish,
            }
        ],
    }
    if usage is not None:
        data["usage"] = {"completion_tokens": usage}
    return steps.raw(b"data: " + json.dumps(data).encode() + b"\n\n")


# --- the text and the message ---


def test_outcome_has_the_whole_answer() -> None:
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me"}]}]
    outcome = outcome_of(
        [chunk(thought), chunk("Hel"), chunk("lo"), chunk("", finish="stop", usage=2), steps.done()]
    )
    assert (outcome.text, outcome.thinking, outcome.model) == ("Hello", "Let me", "m-2")
    assert outcome.tool_calls == []
    assert outcome.message is not None
    assert outcome.message == outcome.response.choices[0].message
    assert (outcome.usage_is_final, outcome.usage_is_exact) == (True, True)


def test_refused_answer_has_empty_text_and_no_message() -> None:
    outcome = outcome_of([steps.header("mistral-correlation-id", "c9"), steps.status(429)])
    assert (outcome.status, outcome.text, outcome.thinking) == ("refused", "", "")
    assert (outcome.message, outcome.model, outcome.tool_calls) == (None, None, [])
    assert (outcome.usage, outcome.usage_is_final) == (None, False)


def test_broken_answer_has_a_message_of_complete_calls_only() -> None:
    begun = [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a":'}}]
    outcome = outcome_of([chunk("Hel", calls=begun), steps.drop()])
    assert outcome.message == AssistantMessage(content="Hel", tool_calls=None)
    assert outcome.tool_calls == []
    assert outcome_of([chunk(None, calls=begun), steps.drop()]).message is None


def test_message_of_an_outcome_can_be_sent_again() -> None:
    first: Script = [chunk("Hel"), steps.drop()]
    with ScriptedServer(first, [chunk("lo", finish="stop")]) as server:
        client = Mistral("key", server_url=server.url)
        stream = client.chat.stream(model="m", messages=MESSAGES)
        with pytest.raises(Exception, match="closed"):
            stream.run()
        assert stream.outcome is not None
        assert stream.outcome.message is not None
        client.chat.stream(model="m", messages=[*MESSAGES, stream.outcome.message]).run()
        sent = server.requests[1].json["messages"][1]
        assert (sent["role"], sent["content"]) == ("assistant", "Hel")


@pytest.mark.parametrize(
    ("content", "calls", "expected"),
    [
        ("", None, None),
        (None, None, None),
        ("Hi", None, ("Hi", None)),
        ("", [UNFINISHED], None),
        ("", [CALL], ("", [CALL])),
        ("Hi", [CALL, UNFINISHED], ("Hi", [CALL])),
        ("Hi", [UNFINISHED], ("Hi", None)),
        ([ReferenceChunk(reference_ids=[])], None, None),
        ([ThinkChunk(thinking=[TextChunk(text="")])], None, None),
        ([TextChunk(text="Hi")], None, ([TextChunk(text="Hi")], None)),
        ([UnknownContentChunk(type="new")], None, ([UnknownContentChunk(type="new")], None)),
    ],
)
def test_message_of_a_response(content: Any, calls: Any, expected: Any) -> None:
    message = AssistantMessage(content=content, tool_calls=calls)
    response = ChatCompletionResponse(choices=[ChatCompletionChoice(message=message)])
    sent = response.message
    assert (sent and (sent.content, sent.tool_calls)) == expected


def test_response_text_is_that_of_the_first_answer() -> None:
    choices = [
        ChatCompletionChoice(index=number, message=AssistantMessage(content=content))
        for number, content in ((1, "other"), (0, [TextChunk(text="a"), TextChunk(text="b")]))
    ]
    assert ChatCompletionResponse(choices=choices).text == "ab"
    assert ChatCompletionResponse(choices=choices[:1]).text == ""
    assert ChatCompletionResponse().message is None


# --- usage ---


@pytest.mark.parametrize(
    ("script", "usage", "is_final"),
    [
        ([chunk("a", usage=1), chunk("b", usage=2), steps.drop()], 2, False),
        ([chunk("a", usage=1), chunk("b", usage=2), steps.end()], 2, False),
        ([chunk("a", usage=1), chunk("b", usage=2), steps.error("overloaded")], 2, False),
        ([chunk("a", usage=1), chunk("b", finish="stop", usage=2), steps.done()], 2, True),
        ([chunk("a", usage=1), chunk("b", finish="stop"), steps.done()], 1, True),
        ([chunk("a"), chunk("b", finish="stop"), steps.done()], None, False),
        ([chunk("a"), steps.drop()], None, False),
    ],
)
def test_usage_is_the_last_one_seen(script: Script, usage: int | None, is_final: bool) -> None:
    outcome = outcome_of(script)
    assert (outcome.usage.completion_tokens if outcome.usage else None) == usage
    assert outcome.usage_is_final == is_final
    assert outcome.usage_is_exact == is_final


def test_usage_after_the_finish_is_final_when_the_reader_leaves() -> None:
    script: Script = [chunk("a", usage=1), chunk("b", finish="stop", usage=2), steps.hang()]
    for count, is_final in ((1, False), (2, True)):
        with ScriptedServer(script) as server, Mistral("key", server_url=server.url) as client:
            stream = client.chat.stream(model="m", messages=MESSAGES)
            with stream:
                for _ in zip(range(count), stream, strict=False):
                    pass
                stream.close()
            assert stream.outcome is not None
            assert stream.outcome.status == "cancelled"
            assert stream.outcome.usage is not None
            if count == 2 or stream.outcome.usage.completion_tokens == 1:
                assert stream.outcome.usage_is_final == is_final


def test_answer_is_cancelled_when_an_operator_raises() -> None:
    with ScriptedServer(["a", steps.hang()]) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        with pytest.raises(ZeroDivisionError):
            list(stream.pipe(ops.map(lambda _: 1 // 0)))
        assert stream.outcome is not None
        assert stream.outcome.status == "cancelled"


# --- the id of the request ---


def test_request_id_is_that_of_the_latest_response() -> None:
    header, name = steps.header, "mistral-correlation-id"
    whole: Script = [chunk("Hello", finish="stop"), steps.done()]
    assert outcome_of(whole).request_id is None
    assert outcome_of([header(name, "a"), *whole]).request_id == "a"
    retry = {"retry": Retry(initial=0.0)}
    busy: Script = [header(name, "a"), steps.status(503)]
    assert outcome_of(busy, [header(name, "b"), *whole], **retry).request_id == "b"
    assert outcome_of(busy, whole, **retry).request_id is None
    broken: Script = [header(name, "a"), chunk("Hel"), steps.drop()]
    rest: Script = [header(name, "b"), chunk("Hello", finish="stop"), steps.done()]
    resumed = outcome_of(broken, rest, resume=Resume())
    assert (resumed.text, resumed.request_id, resumed.requests) == ("Hello", "b", 2)


# --- the other operators ---


def test_parts_of_an_outcome_equal_those_of_the_operators() -> None:
    script: Script = [
        chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]),
        chunk([{"type": "text", "text": "Hel"}, {"type": "reference", "reference_ids": [1]}]),
        chunk("lo"),
        chunk(calls=[{"id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}]),
        chunk(finish="tool_calls"),
        steps.done(),
    ]
    with ScriptedServer(script) as server, Mistral("key", server_url=server.url) as client:
        with client.chat.stream(model="m", messages=MESSAGES) as stream:
            joined = "".join(stream.pipe(text())), "".join(stream.pipe(thinking()))
            calls, response = list(stream.pipe(tool_calls())), stream.pipe(to_response()).run()
        outcome = stream.outcome
    assert outcome is not None
    assert (outcome.text, outcome.thinking) == joined == ("Hello", "Hm")
    assert outcome.tool_calls == calls
    assert (response.text, response.message) == (outcome.text, outcome.message)


# --- Message ---


def test_every_message_has_role_and_content() -> None:
    messages: list[Message] = [
        SystemMessage(content="Be brief."),
        UserMessage(content="Hi"),
        AssistantMessage(),
        ToolMessage(content="1", tool_call_id="c1"),
    ]
    roles = [message.role for message in messages]
    assert roles == ["system", "user", "assistant", "tool"]
    assert [message.content for message in messages] == ["Be brief.", "Hi", msgspec.UNSET, "1"]
