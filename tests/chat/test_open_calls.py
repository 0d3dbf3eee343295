"""Calls of tools without a function: open at the end of a turn, answered by the next one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from faces import BOUND, FACES, Face, eventually
from pairing import problems

from rxmistral import (
    Answer,
    AnswerEnded,
    Conversation,
    Mistral,
    Tool,
    ToolMessage,
    UserMessage,
    tool,
)
from rxmistral.models import Function
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

DECLARED = Tool(function=Function(name="place", parameters={}))


def add(a: int) -> int:
    return a + 1


def script(request: ReceivedRequest) -> Script:
    """Returns two open calls and one of a function, then text; "hang" hangs."""
    last = request.json["messages"][-1]
    if last["role"] == "tool" or "hi" in last["content"]:
        return [steps.role(), "Here.", steps.finish(), steps.done()]
    if "hang" in last["content"]:
        return [steps.role(), "One.", steps.hang()]
    return [
        steps.role(),
        "Wait. ",
        steps.tool_call(name="place", arguments="{}", id="place0001", index=0),
        steps.tool_call(name="add", arguments='{"a": 1}', id="add000001", index=1),
        steps.tool_call(name="place", arguments="{}", id="place0002", index=2),
        steps.finish("tool_calls"),
        steps.done(),
    ]


class Asked:
    """A server, and a conversation with it whose calls are open."""

    def __init__(self, server: ScriptedServer, client: Mistral) -> None:
        self.server, self.client = server, client
        self.chat = self.new_chat()

    def new_chat(self, **options: Any) -> Conversation:
        chat = Conversation(self.client, model="m", tools=[DECLARED, add], **options)
        answer = chat.ask("where?")
        list(answer)
        assert answer.outcome is not None
        assert [call.id for call in answer.outcome.tool_calls] == ["place0001", "place0002"]
        return chat

    def sent(self) -> Any:
        return self.server.requests[-1].json["messages"]


@pytest.fixture
def asked() -> Iterator[Asked]:
    with ScriptedServer(script) as server, Mistral(server_url=server.url, api_key="k") as client:
        yield Asked(server, client)


def result(number: int = 1, content: str = "Rome") -> ToolMessage:
    return ToolMessage(content=content, tool_call_id=f"place000{number}")


def result_of(answer: Answer) -> ToolMessage:
    """Returns the result of the first open call of an answer."""
    assert answer.outcome is not None
    return ToolMessage(content="Rome", tool_call_id=answer.outcome.tool_calls[0].id)


def results_of(chat: Conversation) -> list[object]:
    return [each.content for each in chat.messages if isinstance(each, ToolMessage)]


def test_history_with_open_calls_can_be_sent(asked: Asked) -> None:
    chat = asked.chat
    assert [each.role for each in chat.messages] == ["user", "assistant", *["tool"] * 3]
    assert results_of(chat) == ["cancelled", "2", "cancelled"]
    assert problems(chat.messages) == []


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_results_continue_the_answer_on_each_face(asked: Asked, face: Face) -> None:
    chat = asked.chat
    assert face(chat.ask([result(2, "Oslo"), result(1)]).text())[-1:] == ["Here."]
    assert [each["role"] for each in asked.sent()] == ["user", "assistant", *["tool"] * 3]
    assert [each.get("name") for each in asked.sent()[2:]] == ["place", "add", "place"]
    assert results_of(chat) == ["Rome", "2", "Oslo"]
    assert [each.role for each in chat.messages][-1] == "assistant"
    assert problems(chat.messages) == []


def test_call_without_a_result_is_cancelled(asked: Asked) -> None:
    list(asked.chat.ask(result()))
    assert results_of(asked.chat) == ["Rome", "2", "cancelled"]


def test_user_message_cancels_open_calls(asked: Asked) -> None:
    list(asked.chat.ask("hi"))
    assert [each["role"] for each in asked.sent()][-2:] == ["assistant", "user"]
    assert results_of(asked.chat) == ["cancelled", "2", "cancelled"]
    assert problems(asked.chat.messages) == []


@pytest.mark.parametrize("wrong", [[result(3)], [result(), result()], [ToolMessage(content="")]])
def test_result_of_another_call_is_refused(
    asked: Asked, wrong: list[ToolMessage], read: Face
) -> None:
    chat, before = asked.chat, asked.chat.messages
    error = read(chat.ask(wrong))[-1]
    assert isinstance(error, ValueError)
    assert "open calls: place000" in str(error)
    assert chat.messages == before
    assert list(chat.ask(result()).text()) == ["Here."]


def test_late_result_does_not_stop_a_running_answer(asked: Asked) -> None:
    chat, received = asked.chat, list[object]()
    running = chat.ask("hang")
    running.text().subscribe(received.append, received.append)
    assert eventually(lambda: received == ["One."])
    with pytest.raises(ValueError, match="open calls: none"):
        list(chat.ask(result()))
    assert running.outcome is None
    running.close()


def test_queued_late_result_is_an_error_of_its_reader(asked: Asked) -> None:
    chat = asked.new_chat(when_busy="queue")
    running, received = chat.ask("hang"), list[object]()
    running.text().subscribe(received.append)
    assert eventually(lambda: received == ["One."])
    chat.ask(result()).subscribe(on_error=received.append)
    chat.ask("hi").text().subscribe(received.append)
    running.close()
    assert eventually(lambda: received[-1:] == ["Here."])
    assert isinstance(received[1], ValueError)


def test_callback_may_answer_the_calls_at_the_end(asked: Asked) -> None:
    received: list[object] = []

    def on_next(part: object) -> None:
        if isinstance(part, AnswerEnded):
            chat.ask(result_of(answer)).text().subscribe(received.append)

    chat = asked.chat
    answer = chat.ask("again")
    answer.subscribe(on_next, lambda _: None)
    assert eventually(lambda: received == ["Here."])
    assert results_of(chat)[-3:] == ["Rome", "2", "cancelled"]
    assert problems(chat.messages) == []


def test_open_calls_survive_json_and_fork(asked: Asked) -> None:
    saved = asked.chat.to_json()
    for chat in (
        Conversation.from_json(saved, asked.client, model="m", tools=[DECLARED, add]),
        asked.chat.fork(),
    ):
        assert chat.messages == asked.chat.messages
        assert chat.to_json().count(b"cancelled") == 0
        list(chat.ask(result()))
        assert results_of(chat) == ["Rome", "2", "cancelled"]
    assert results_of(asked.chat) == ["cancelled", "2", "cancelled"]


def test_messages_of_a_run_can_be_continued(asked: Asked) -> None:
    prompt = UserMessage(content="where?")
    run = asked.client.chat.run(model="m", messages=[prompt], tools=[DECLARED, add])
    run.run()
    chat = Conversation(asked.client, model="m", messages=run.messages)
    assert list(chat.ask([result(1), result(2)]).text()) == ["Here."]
    assert results_of(chat) == ["Rome", "2", "Rome"]


def test_speculation_may_answer_open_calls(asked: Asked) -> None:
    with pytest.raises(ValueError, match="no open tool call"):
        asked.chat.speculate(result(3))
    speculation = asked.chat.speculate(result())
    assert list(speculation.commit().text()) == ["Here."]
    assert results_of(asked.chat) == ["Rome", "2", "cancelled"]


def test_cut_answer_keeps_its_open_calls(asked: Asked) -> None:
    answer = asked.chat.ask("again")
    list(answer)
    answer.delivered(0)
    assert asked.chat.messages[-4].content == ""
    list(asked.chat.ask(result_of(answer)))
    assert results_of(asked.chat)[-3:] == ["Rome", "2", "cancelled"]


def test_trim_must_keep_the_results_to_answer(asked: Asked) -> None:
    chat = asked.new_chat(trim=lambda messages: messages[: 1 if len(messages) == 5 else None])
    with pytest.raises(ValueError, match="trim must keep the last tool messages"):
        list(chat.ask(result()))


def test_closed_answer_leaves_no_open_call(asked: Asked) -> None:
    async def hold(a: int) -> None:
        started.set()
        await asyncio.sleep(BOUND)

    started = threading.Event()
    tools = [DECLARED, tool(hold, name="add")]
    chat = Conversation(asked.client, model="m", tools=tools)
    answer = chat.ask("where?")
    answer.subscribe()
    assert started.wait(BOUND)
    answer.close()
    with pytest.raises(ValueError, match="open calls: none"):
        list(chat.ask(result()))
    assert results_of(chat) == ["cancelled"] * 3
    assert problems(chat.messages) == []
