"""The history of a conversation, attacked with generated messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairing import problems

from rxmistral import (
    AssistantMessage,
    FunctionCall,
    Message,
    TextChunk,
    TextDelta,
    ThinkChunk,
    ToolCall,
    ToolCallReady,
    ToolMessage,
    UserMessage,
)
from rxmistral.chat.history import (
    History,
    as_message,
    cut,
    fitted,
    position_of,
    received,
    text_of,
)
from rxmistral.chat.trimming import trimmed, turns_within
from rxmistral.completions.tool_parts import RoundEnded, ToolReturned


def call(number: int) -> ToolCall:
    return ToolCall(id=f"call{number:05}", function=FunctionCall(name="f", arguments="{}"))


def result(number: int) -> ToolMessage:
    return ToolMessage(content="r", tool_call_id=f"call{number:05}", name="f")


TEXTS = st.sampled_from(["", " ", "a", "Hello. "])


@st.composite
def answers(draw: st.DrawFn) -> list[list[Message]]:
    """Returns the answers of several turns, in which calls and results may be missing."""
    number, turns = 0, []
    for _ in range(draw(st.integers(1, 4))):
        turn: list[Message] = []
        for _ in range(draw(st.integers(0, 3))):
            numbers = range(number, number + draw(st.integers(1, 3)))
            number = numbers.stop
            turn.append(AssistantMessage(content=draw(TEXTS), tool_calls=[*map(call, numbers)]))
            answered = draw(st.permutations([*numbers, 90_000]))
            turn += map(result, answered[: draw(st.integers(1, len(answered)))])
        turn.append(AssistantMessage(content=draw(TEXTS)))
        turns.append(turn)
    return turns


def sendable(messages: list[Message]) -> list[Message]:
    if messages and messages[-1].role not in ("user", "tool"):
        return [*messages, UserMessage(content="?")]
    return messages


@given(answers(), st.data())
def test_history_is_fit_after_any_cut(turns: list[list[Message]], data: st.DataObject) -> None:
    history = History([], "[interrupted]", "(interrupted)")
    trim = data.draw(st.sampled_from([None, turns_within(1), turns_within(4), lambda m: m[-3:]]))
    for turn in turns:
        sent = trimmed(history.with_turn(UserMessage(content="Hi")), trim, "[interrupted]")
        history.begin(sent)
        assert problems(sent) == []
        assert sent[-1].role == "user"
        position = data.draw(st.integers(0, 20))
        history.answer(cut(turn, position, is_whole=False), is_whole=False)
        assert problems(sendable(history.messages())) == []
        trimmed_now = trimmed(history.messages(), trim, "[interrupted]")
        assert problems(sendable(trimmed_now)) == []


@given(answers())
def test_fitted_history_is_not_changed_again(turns: list[list[Message]]) -> None:
    once = fitted([each for turn in turns for each in turn], "[interrupted]")
    assert fitted(once, "[interrupted]") == once


@given(st.text(" ab\n"), st.text(" ab\n"))
def test_position_counts_blanks_of_the_answer(beginning: str, rest: str) -> None:
    spoken = " ".join(beginning.split())
    position = position_of(spoken, beginning + rest)
    assert "".join((beginning + rest)[:position].split()) == "".join(spoken.split())


def test_position_refuses_text_of_another_answer() -> None:
    with pytest.raises(ValueError, match="the beginning of the answer"):
        position_of("Bye", "Hello")


def test_unanswered_prompts_are_merged() -> None:
    history = History([UserMessage(content="a")], "-")
    chunks = UserMessage(content=[TextChunk(text="b")])
    assert history.with_turn(UserMessage(content="b")) == [UserMessage(content="a\n\nb")]
    assert text_of(history.with_turn(chunks)[0]) == "ab"


def test_note_follows_a_cut_answer_only() -> None:
    history = History([UserMessage(content="a")], "-", "(cut)")
    history.answer([AssistantMessage(content="b")], is_whole=True)
    assert history.with_turn(UserMessage(content="c"))[-1].content == "c"
    history.answer([AssistantMessage(content="b")], is_whole=False)
    assert history.with_turn(UserMessage(content="c"))[-1].content == "(cut)\n\nc"
    history.answer([AssistantMessage(content="")], is_whole=False)
    assert history.with_turn(UserMessage(content="c"))[-1].content == "a\n\nc"


def test_thinking_is_closed_when_whole_and_dropped_when_cut() -> None:
    thought = ThinkChunk(thinking=[TextChunk(text="Hm")])
    message = AssistantMessage(content=[thought, TextChunk(text="Hello")])
    (whole,) = fitted(cut([message], 5, is_whole=True), "-")
    assert isinstance(whole.content, list)
    assert whole.content[0] == ThinkChunk(thinking=[TextChunk(text="Hm")], closed=True)
    assert [each.content for each in cut([message], 4, is_whole=True)] == ["Hell"]
    assert [each.content for each in cut([message], 5, is_whole=False)] == ["Hello"]


def test_received_parts_of_rounds_are_messages() -> None:
    parts = [
        TextDelta("Let me "),
        TextDelta("see."),
        ToolCallReady(call(1)),
        ToolCallReady(call(2)),
        ToolReturned(call(2), "r"),
        RoundEnded(1),
        TextDelta("It is"),
    ]
    first, cancelled, second, last = received(parts, has_ended=True)
    assert (text_of(first), text_of(last)) == ("Let me see.", "It is")
    assert (cancelled.content, second) == ("cancelled", result(2))
    assert len(received(parts, has_ended=False)) == 3


def test_trim_keeps_whole_turns() -> None:
    messages: list[Message] = []
    for number in range(3):
        messages += [UserMessage(content="q"), AssistantMessage(tool_calls=[call(number)])]
        messages += [result(number), AssistantMessage(content="a")]
    assert trimmed(messages, turns_within(8), "-") == messages[4:]
    assert trimmed(messages, turns_within(7), "-") == messages[8:]
    assert trimmed(messages, turns_within(1), "-") == messages[8:]
    assert trimmed(messages, lambda each: each[-6:], "-") == messages[8:]


def test_trim_must_keep_the_prompt() -> None:
    with pytest.raises(ValueError, match="the last user message"):
        trimmed([UserMessage(content="a")], lambda _: [], "-")


@pytest.mark.parametrize(
    ("message", "error"),
    [("Hi", TypeError), ({"role": "bot"}, ValueError), ({"role": "tool", "name": 1}, ValueError)],
)
def test_message_of_another_shape_is_refused(message: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"messages\[0\]"):
        as_message(message, "messages[0]")
