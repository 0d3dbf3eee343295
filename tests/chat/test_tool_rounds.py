"""The history of a run is valid at any moment, whatever the model, the tools and the reader do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from pairing import problems

from rxmistral.chat.tool_rounds import NOT_RUN, ToolRounds
from rxmistral.models import (
    AssistantMessage,
    FunctionCall,
    SystemMessage,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UserMessage,
)

ASKED = [SystemMessage(content="Be brief."), UserMessage(content="hi")]
THOUGHT = ThinkChunk(thinking=[TextChunk(text="hm")], closed=True)
CONTENTS = [None, "", "  ", "text", [THOUGHT], [THOUGHT, TextChunk(text="text")]]
NAMES = st.sampled_from(["run", "run", "unknown", "declared"])
IDS = st.sampled_from([None, "", "null", "call00001", "call00002"])

ROUND = st.tuples(
    st.sampled_from(CONTENTS),
    st.lists(st.tuples(NAMES, IDS), max_size=4),
    st.booleans(),  # cut
    st.permutations(range(4)),  # in which the calls return
)


def call(rounds: ToolRounds, name: str = "run", call_id: str | None = None) -> ToolCall:
    return ToolCall(function=FunctionCall(name=name), id=rounds.choose_id(call_id))


def roles(rounds: ToolRounds) -> list[str]:
    return [getattr(message, "role", "") for message in rounds.messages]


class Script:
    """Plays rounds until a step, and checks the history after each step."""

    def __init__(self, max_rounds: int, steps: int) -> None:
        self.rounds = ToolRounds(ASKED, {"declared"}, max_rounds)
        self.steps = steps
        self.ran: list[str] = []

    def step(self) -> bool:
        rounds, self.steps = self.rounds, self.steps - 1
        is_open = bool(rounds.open_calls)
        assert not problems(rounds.messages, ["declared"] if is_open else [])
        return self.steps < 0

    def play(
        self, content: Any, calls: list[Any], cut: bool, order: list[int]
    ) -> tuple[bool, bool]:
        """Plays a round; returns whether another one follows, and whether the run may complete."""
        rounds = self.rounds
        sent = rounds.begin()
        assert sent is not None
        assert not problems(sent)
        made = [call(rounds, name, call_id) for name, call_id in calls]
        message = None if content is None else AssistantMessage(content=content)
        if self.step() or cut:
            rounds.end(message, made)
            return False, False
        to_run = rounds.end_answer(message, made)
        assert to_run is not None
        for index in order:
            if self.step():
                rounds.end()
                return False, False
            if index < len(to_run):
                self.ran.append(str(to_run[index].id))
                assert rounds.record(to_run[index], "result")
                assert not rounds.record(to_run[index], "another result")
        assert not rounds.is_waiting
        follows = rounds.end_round()
        return follows and not self.step(), not follows


@given(st.lists(ROUND, min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 20))
def test_history_is_valid_after_each_step(script: Any, max_rounds: int, steps: int) -> None:
    played = Script(max_rounds, steps)
    completes = True
    for each in script:
        follows, completes = played.play(*each)
        if not follows:
            break
    rounds = played.rounds
    if completes:
        rounds.complete()
    rounds.end()
    played.step()
    before = rounds.messages
    assert rounds.begin() is None
    assert rounds.end_answer(AssistantMessage(content="late"), []) is None
    rounds.end(AssistantMessage(content="late"))
    assert rounds.messages == before
    assert len(set(played.ran)) == len(played.ran)
    assert rounds.number <= max_rounds


def test_results_are_in_the_order_of_the_calls() -> None:
    rounds = ToolRounds(ASKED, (), 10)
    rounds.begin()
    calls = [call(rounds) for _ in range(3)]
    rounds.end_answer(None, calls)
    for index in (2, 0, 1):
        rounds.record(calls[index], str(index))
    assert rounds.end_round()
    assert [getattr(each, "content", "") for each in rounds.messages[-3:]] == ["0", "1", "2"]


def test_calls_of_the_last_round_do_not_run() -> None:
    rounds = ToolRounds(ASKED, (), 1)
    rounds.begin()
    assert rounds.end_answer(None, [call(rounds)]) == []
    assert rounds.has_reached_limit
    assert not rounds.end_round()
    assert getattr(rounds.messages[-1], "content", "") == NOT_RUN


def test_declared_calls_stay_open_also_in_the_last_round() -> None:
    rounds = ToolRounds(ASKED, {"declared"}, 1)
    rounds.begin()
    calls = [call(rounds, "declared"), call(rounds)]
    assert rounds.end_answer(None, calls) == calls[1:]
    rounds.record(calls[1], "result")
    assert not rounds.end_round()
    assert not problems(rounds.messages)
    rounds.complete()
    assert rounds.open_calls == calls[:1]
    assert roles(rounds) == ["system", "user", "assistant", "tool"]


def test_end_answers_declared_calls_while_others_run() -> None:
    rounds = ToolRounds(ASKED, {"declared"}, 1)
    rounds.begin()
    rounds.end_answer(None, [call(rounds, "declared"), call(rounds)])
    rounds.end()
    assert not rounds.open_calls
    assert [getattr(each, "content", "") for each in rounds.messages[-2:]] == ["cancelled"] * 2


@pytest.mark.parametrize("content", ["text", [THOUGHT, TextChunk(text="text")]])
def test_thinking_of_a_cut_answer_is_dropped(content: Any) -> None:
    rounds = ToolRounds(ASKED, (), 1)
    rounds.begin()
    rounds.end(AssistantMessage(content=content))
    assert rounds.messages == [*ASKED, AssistantMessage(content="text")]


@pytest.mark.parametrize("closed", [None, True])
def test_thinking_of_a_whole_answer_is_kept_closed(closed: bool | None) -> None:
    rounds = ToolRounds(ASKED, (), 1)
    rounds.begin()
    text = TextChunk(text="text")
    content = [structs.replace(THOUGHT, closed=closed), text]
    rounds.end_answer(AssistantMessage(content=content), [])
    assert not rounds.end_round()
    assert rounds.messages == [*ASKED, AssistantMessage(content=[THOUGHT, text])]


def test_ids_of_the_conversation_are_not_used_again() -> None:
    earlier: list[Any] = [
        AssistantMessage(tool_calls=[ToolCall(id="call00001")]),
        {"role": "assistant", "tool_calls": [{"id": "call00002"}]},
    ]
    rounds = ToolRounds(earlier, (), 1)
    ids = [rounds.choose_id(each) for each in ("call00001", "call00002", "call00003")]
    assert len({*ids, "call00001", "call00002"}) == 5
    assert ids[2] == "call00003"
