"""Conversations: turns, their readers, and what enters the history."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import reactivex
from faces import BOUND, FACES, Face, eventually, run
from pairing import problems
from reactivex import Subject
from reactivex import operators as ops

from rxmistral import (
    Answer,
    AssistantMessage,
    BusyError,
    Conversation,
    Mistral,
    Part,
    StoppedError,
    Stream,
    SystemMessage,
    TextChunk,
    TextDelta,
    ThinkChunk,
    ToolMessage,
    UserMessage,
    answer_each,
    text,
    tool,
)
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

HELLO: Script = [steps.role(), "Hel", "lo", steps.finish(), steps.done()]
ENDLESS: Script = [steps.role(), "One. ", "Two. ", "Thr", steps.hang()]
FAST: Script = [steps.role(), *[f"w{n} " for n in range(30)], steps.finish(), steps.done()]


def script(request: ReceivedRequest) -> Script:
    """Returns the answer to the last prompt, and of tools that it names."""
    last = request.json["messages"][-1]
    content = last["content"]
    if last["role"] == "tool":
        return [steps.role(), "Done.", *([steps.hang()] if "hang" in content else HELLO[3:])]
    if "use" in content:
        call = steps.tool_call(name=content.split()[-1], arguments="{}", id="call00001")
        return [steps.role(), "Wait. ", call, steps.finish("tool_calls"), steps.done()]
    if "think" in content:
        return [steps.role(), steps.thinking("Hm"), *HELLO[1:]]
    for name, answer in {
        "endless": ENDLESS,
        "fast": FAST,
        "drop": [*ENDLESS[:3], steps.drop()],
    }.items():
        if name in content:
            return answer
    return HELLO


class Asked:
    """A server, and a conversation with it."""

    def __init__(self, server: ScriptedServer, client: Mistral) -> None:
        self.server, self.client = server, client

    def chat(self, **options: Any) -> Conversation:
        return Conversation(self.client, model="m", **options)

    def sent(self) -> Any:
        return self.server.requests[-1].json


@pytest.fixture
def asked() -> Iterator[Asked]:
    with ScriptedServer(script) as server, Mistral(server_url=server.url, api_key="k") as client:
        yield Asked(server, client)


def contents(chat: Conversation) -> list[object]:
    return [message.content for message in chat.messages]


def begun(answer: Answer, received: list[object]) -> None:
    """Subscribes to the text of an endless answer, and waits for its beginning."""
    answer.text().subscribe(received.append, received.append)
    assert eventually(lambda: len(received) == 3)


# --- turns -----------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_answer_enters_the_history_on_each_face(asked: Asked, face: Face) -> None:
    chat = asked.chat(system="Be brief.")
    assert face(chat.ask("a").text())[-2:] == ["Hel", "lo"]
    assert contents(chat) == ["Be brief.", "a", "Hello"]
    assert face(chat.ask("b"))
    assert contents(chat) == ["Be brief.", "a", "Hello", "b", "Hello"]
    assert [each["content"] for each in asked.sent()["messages"]] == contents(chat)[:4]


def test_answer_that_was_closed_begins_no_turn(asked: Asked) -> None:
    chat = asked.chat()
    running, received = chat.ask("endless"), list[object]()
    begun(running, received)
    closed = chat.ask("closed")
    closed.close()
    assert isinstance(FACES["for"](closed)[-1], StoppedError)
    assert len(received) == 3
    assert contents(chat) == ["endless", "One. Two. Thr"]
    running.close()


def test_answer_is_cold(asked: Asked) -> None:
    chat = asked.chat()
    answer = chat.ask("a")
    assert chat.messages == []
    assert "not sent" in repr(answer)
    assert not asked.server.requests


def test_answer_read_twice_is_one_request(asked: Asked) -> None:
    chat = asked.chat()
    answer = chat.ask("a")
    assert list(answer.text()) == list(answer.text()) == ["Hel", "lo"]
    assert isinstance(next(iter(answer)), TextDelta)
    assert answer.outcome is not None
    assert answer.outcome.status == "completed"
    assert len(asked.server.requests) == 1
    assert contents(chat) == ["a", "Hello"]


def test_answer_goes_on_until_its_last_reader_leaves(asked: Asked) -> None:
    chat = asked.chat()
    answer, first, second = chat.ask("endless"), list[str](), list[str]()
    one, two = (answer.text().subscribe(each.append) for each in (first, second))
    assert eventually(lambda: len(first) == len(second) == 3)
    one.dispose()
    assert answer.outcome is None
    two.dispose()
    assert asked.server.requests[0].wait_closed(BOUND)
    assert contents(chat) == ["endless", "One. Two. Thr"]


def test_prompt_can_be_chunks_or_a_message(asked: Asked) -> None:
    chat = asked.chat()
    list(chat.ask([TextChunk(text="a")]))
    list(chat.ask(UserMessage(content="b")))
    assert [m["content"] for m in asked.sent()["messages"]] == [
        [{"text": "a", "type": "text"}],
        "Hello",
        "b",
    ]
    for wrong in (None, 1, ["a"], AssistantMessage(content="a")):
        with pytest.raises(TypeError, match="prompt must be"):
            chat.ask(wrong)  # type: ignore[arg-type]


def test_conversation_checks_its_arguments(asked: Asked) -> None:
    for wrong in (
        {"when_busy": "ignore"},
        {"max_rounds": 0},
        {"max_messages": 0},
        {"max_messages": 1, "trim": list},
        {"trim": 1},
        {"trim": asyncio.sleep},
        {"interrupted": " "},
        {"interrupted": None},
        {"interrupted_note": 1},
        {"system": 1},
        {"id": 1},
        {"messages": ["a"]},
        {"temperature": "hot"},
        {"unknown": 1},
    ):
        with pytest.raises((TypeError, ValueError)):
            asked.chat(**wrong)


def test_conversation_needs_a_client() -> None:
    wrong: Any = "client"
    with pytest.raises(TypeError, match="client must be a Mistral, got str"):
        Conversation(wrong, model="small")


def test_cache_key_is_the_id_unless_given(asked: Asked) -> None:
    chat = asked.chat(id="c1")
    list(chat.ask("a"))
    assert asked.sent()["prompt_cache_key"] == "c1"
    list(asked.chat(prompt_cache_key="k").ask("a"))
    assert asked.sent()["prompt_cache_key"] == "k"


# --- what enters the history -----------------------------------------------------


@pytest.mark.parametrize("count", range(1, 6))
def test_loop_enters_the_items_that_it_has_taken(asked: Asked, count: int) -> None:
    chat = asked.chat()
    taken: list[str] = []
    for piece in chat.ask("fast").text():
        taken.append(piece)
        if len(taken) == count:
            break
    assert contents(chat) == ["fast", "".join(taken)]
    taken = []
    for part in chat.ask("fast"):
        taken += [part.text] if isinstance(part, TextDelta) else []
        if len(taken) == count:
            break
    assert contents(chat)[-1] == "".join(taken)


@pytest.mark.parametrize("is_text", [False, True])
def test_async_loop_enters_the_items_that_it_has_taken(asked: Asked, is_text: bool) -> None:
    chat = asked.chat()

    async def read() -> None:
        answer = chat.ask("fast")
        async with answer:
            count = 0
            async for _ in answer.text() if is_text else answer:
                count += 1
                if count == 3:
                    break
            async for _ in answer.text() if is_text else answer:
                count += 1
                if count == 5:
                    break
        assert contents(chat) == ["fast", "w0 w1 w2 " if is_text else "w0 w1 w2 w3 w4 "]

    run(read())


def test_other_operators_enter_the_items_they_received(asked: Asked) -> None:
    chat = asked.chat()
    answer = chat.ask("endless")
    for sentence in answer.text().sentences():
        assert sentence.strip() == "One."
        assert eventually(lambda: contents(chat)[-1] == "One. Two. Thr")
        break
    assert contents(chat) == ["endless", "One. Two. Thr"]


def test_mark_cuts_the_answer(asked: Asked) -> None:
    chat = asked.chat(interrupted_note="(cut)")
    answer = chat.ask("think")
    list(answer)
    assert isinstance(chat.messages[-1].content, list)
    answer.delivered(4)
    assert contents(chat) == ["think", "Hell"]
    answer.delivered(text="He")
    assert contents(chat) == ["think", "He"]
    list(chat.ask("b"))
    answer.delivered(5)
    assert contents(chat) == ["think", "He", "(cut)\n\nb", "Hello"]
    with pytest.raises(ValueError, match="one of both"):
        answer.delivered()
    with pytest.raises(ValueError, match="characters"):
        answer.delivered(-1)


def test_whole_thinking_is_kept_closed(asked: Asked) -> None:
    chat = asked.chat()
    list(chat.ask("think"))
    thought = ThinkChunk(thinking=[TextChunk(text="Hm")], closed=True)
    assert contents(chat)[-1] == [thought, TextChunk(text="Hello")]


def test_unanswered_prompt_is_merged(asked: Asked) -> None:
    chat = asked.chat()
    answer = chat.ask("a")
    list(answer)
    answer.delivered(0)
    assert contents(chat) == ["a"]
    list(chat.ask("b"))
    assert contents(chat) == ["a\n\nb", "Hello"]


def test_broken_answer_enters_as_far_as_received(asked: Asked) -> None:
    chat = asked.chat()
    with pytest.raises(Exception, match="broke"):
        list(chat.ask("drop").text())
    assert contents(chat) == ["drop", "One. Two. "]


# --- tools -----------------------------------------------------------------------


def test_interrupted_tools_are_followed_by_a_marker(asked: Asked) -> None:
    @tool
    def weather() -> str:
        return "hang: sunny"

    chat = asked.chat(tools=[weather])
    for piece in chat.ask("use weather").text():
        if piece == "Wait. ":
            continue
        break
    assert [message.role for message in chat.messages] == ["user", "assistant", "tool", "assistant"]
    answer = chat.ask("use weather")
    answer.text().subscribe()
    assert eventually(lambda: isinstance(chat.messages[-1], ToolMessage) or len(chat.messages) > 7)
    answer.delivered(6)
    answer.close()
    assert chat.messages[-1].role == "tool"
    list(chat.ask("b"))
    assert [each.content for each in chat.messages][-3:] == ["[interrupted]", "b", "Hello"]
    assert problems(chat.messages) == []


# --- during an answer ------------------------------------------------------------


def test_next_prompt_stops_the_running_answer(asked: Asked) -> None:
    chat = asked.chat()
    former, received = chat.ask("endless"), list[object]()
    begun(former, received)
    assert list(chat.ask("b").text()) == ["Hel", "lo"]
    assert asked.server.requests[0].wait_closed(BOUND)
    assert isinstance(received[-1], StoppedError)
    assert received[:-1] == ["One. ", "Two. ", "Thr"]
    assert contents(chat) == ["endless", "One. Two. Thr", "b", "Hello"]
    with pytest.raises(StoppedError):
        list(former)


def test_whole_answer_can_be_read_after_the_next_one(asked: Asked) -> None:
    chat = asked.chat()
    former = chat.ask("a")
    assert list(former.text()) == ["Hel", "lo"]
    list(chat.ask("b"))
    assert list(former.text()) == ["Hel", "lo"]
    assert contents(chat) == ["a", "Hello", "b", "Hello"]
    assert len(asked.server.requests) == 2


@pytest.mark.parametrize("pipe", ["text", "sentences", "coalesced", "join"])
def test_no_held_text_follows_a_stop(asked: Asked, pipe: str) -> None:
    chat = asked.chat()
    pipes: dict[str, Callable[[Answer], Any]] = {
        "text": lambda answer: answer.text(),
        "sentences": lambda answer: answer.text().sentences(),
        "coalesced": lambda answer: answer.text().coalesced(60),
        "join": lambda answer: answer.text().join(),
    }
    former, received = chat.ask("endless"), list[object]()
    pipes[pipe](former).subscribe(received.append, received.append)
    assert eventually(lambda: contents(chat)[-1:] == ["One. Two. Thr"])
    before = list(received)
    list(chat.ask("b"))
    assert eventually(lambda: len(received) > len(before))
    assert received[:-1] == before
    assert isinstance(received[-1], StoppedError)


def test_call_for_an_old_text_has_no_result_after_a_stop(asked: Asked) -> None:
    chat, received = asked.chat(), list[object]()

    async def speak(piece: str) -> str:
        chat.ask("b").subscribe()
        return piece

    chat.ask("endless").text().map_async(speak).subscribe(received.append, received.append)
    assert eventually(lambda: bool(received))
    assert isinstance(received[0], StoppedError)
    assert eventually(lambda: contents(chat)[-1] == "Hello")


def test_loop_receives_no_old_text_after_a_stop(asked: Asked) -> None:
    chat = asked.chat()
    taken: list[str] = []
    with pytest.raises(StoppedError):
        for piece in chat.ask("fast").text():
            taken.append(piece)
            if len(taken) == 2:
                list(chat.ask("b"))
    assert taken == ["w0 ", "w1 "]
    assert contents(chat) == ["fast", "w0 w1 ", "b", "Hello"]


def test_loop_over_sentences_stops_after_the_server_has_ended(asked: Asked) -> None:
    chat = asked.chat()
    answer = chat.ask("fast")
    loop = iter(answer.text().words())
    next(loop)
    assert eventually(lambda: answer.outcome is not None)
    list(chat.ask("b"))
    with pytest.raises(StoppedError):
        next(loop)


def test_callback_may_ask_the_next_prompt(asked: Asked) -> None:
    chat = asked.chat()
    received: list[object] = []

    def on_next(piece: str) -> None:
        received.append(piece)
        if len(received) == 2:
            chat.ask("b").text().subscribe(received.append)

    chat.ask("fast").text().subscribe(on_next, received.append)
    assert eventually(lambda: len(received) == 5)  # the StoppedError may arrive last
    assert [each for each in received if isinstance(each, str)] == ["w0 ", "w1 ", "Hel", "lo"]
    assert contents(chat) == ["fast", "w0 w1 ", "b", "Hello"]


def test_refused_prompt_changes_nothing(asked: Asked) -> None:
    chat = asked.chat(when_busy="refuse")
    former, received = chat.ask("endless"), list[object]()
    begun(former, received)
    refused = chat.ask("b")
    for face in FACES.values():
        assert isinstance(face(refused)[-1], BusyError)
    former.close()
    assert list(refused.text()) == ["Hel", "lo"]
    assert contents(chat) == ["endless", "One. Two. Thr", "b", "Hello"]


def test_queued_prompt_in_the_loop_before_it_is_an_error(asked: Asked) -> None:
    chat = asked.chat(when_busy="queue")
    for _ in chat.ask("a"):
        with pytest.raises(RuntimeError, match="another task"):
            chat.ask("b").run()
    assert list(chat.ask("c").text()) == ["Hel", "lo"]


async def read_in_a_loop(chat: Conversation) -> list[Any]:
    async for _ in chat.ask("a").text():
        with pytest.raises(RuntimeError, match="another task"):
            await chat.ask("b").text().join()
        other = asyncio.create_task(read_last(chat.ask("c").text().join()))
    return [await other]


async def read_last(stream: Stream[Any]) -> Any:
    return await stream


def test_queued_prompt_follows_a_loop_that_was_left_in_a_block(asked: Asked) -> None:
    chat = asked.chat(when_busy="queue")
    with chat.ask("endless") as answer:
        for _ in answer:
            break
    assert list(chat.ask("b").text()) == ["Hel", "lo"]


def test_queued_prompt_may_wait_in_another_task(asked: Asked) -> None:
    chat = asked.chat(when_busy="queue")
    assert asyncio.run(asyncio.wait_for(read_in_a_loop(chat), BOUND)) == ["Hello"]


def test_queued_prompts_are_answered_in_turn(asked: Asked) -> None:
    chat = asked.chat(when_busy="queue")
    former, received = chat.ask("endless"), list[object]()
    begun(former, received)
    left = chat.ask("left").subscribe()
    second: list[object] = []
    chat.ask("b").text().subscribe(second.append)
    third: list[str] = []
    thread = threading.Thread(target=lambda: third.extend(chat.ask("c").text()))
    thread.start()
    left.dispose()
    assert len(asked.server.requests) == 1
    former.close()
    thread.join(BOUND)
    assert second == third == ["Hel", "lo"]
    assert sorted(map(str, contents(chat)[2::2])) == ["b", "c"]
    assert len(asked.server.requests) == 3


def test_queue_waits_for_the_loop_not_only_the_server(asked: Asked) -> None:
    chat = asked.chat(when_busy="queue")
    loop = iter(chat.ask("fast").text())
    next(loop)
    second: list[object] = []
    chat.ask("b").text().subscribe(second.append)
    assert "".join(loop).endswith("w29 ")
    assert eventually(lambda: second == ["Hel", "lo"])
    assert contents(chat)[1] == "".join(f"w{n} " for n in range(30))


def test_queued_tasks_receive_whole_answers(asked: Asked) -> None:
    chat = asked.chat(when_busy="queue")

    async def ask(prompt: str) -> str:
        return await chat.ask(prompt).text().join()

    async def main() -> list[str]:
        return await asyncio.gather(*map(ask, "abcd"))

    assert run(main()) == ["Hello"] * 4
    assert contents(chat) == ["a", "Hello", "b", "Hello", "c", "Hello", "d", "Hello"]


def test_queued_turn_runs_on_the_event_loop_of_its_reader(asked: Asked) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def weather() -> str:
        loops.append(asyncio.get_running_loop())
        return "sunny"

    async def main() -> None:
        async def reply() -> str:
            return await chat.ask("use weather").text().join()

        task = asyncio.create_task(reply())
        await asyncio.to_thread(eventually, lambda: bool(chat._waiting))
        await asyncio.to_thread(former.close)
        assert await task == "Wait. Done."
        assert loops == [asyncio.get_running_loop()]

    chat = asked.chat(when_busy="queue", tools=[weather])
    former, received = chat.ask("endless"), list[object]()
    begun(former, received)
    run(main())


def test_queued_turn_outlives_the_event_loop_before_it(asked: Asked) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def weather() -> str:
        loops.append(asyncio.get_running_loop())
        return "sunny"

    async def main() -> asyncio.AbstractEventLoop:
        async for _ in chat.ask("endless").text():
            waiting = chat.ask("use weather").text()
            await asyncio.to_thread(waiting.subscribe, received.append, received.append)
            break
        return asyncio.get_running_loop()

    chat, received = asked.chat(when_busy="queue", tools=[weather]), list[object]()
    loop = run(main())
    assert eventually(lambda: received == ["Wait. ", "Done."])
    assert loops
    assert loops[0] is not loop


def test_queued_turn_outlives_the_event_loop_of_its_reader(asked: Asked) -> None:
    async def main() -> None:
        chat.ask("use weather").text().subscribe(received.append, received.append)

    async def weather() -> str:
        return "sunny"

    chat = asked.chat(when_busy="queue", tools=[weather])
    former, received = chat.ask("endless"), list[object]()
    begun(former, received)
    received.clear()
    run(main())
    former.close()
    assert eventually(lambda: received == ["Wait. ", "Done."])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_reader_without_on_error_does_not_fail_the_next_prompt(asked: Asked) -> None:
    chat, received = asked.chat(), list[object]()
    chat.ask("endless").text().subscribe(received.append)
    assert eventually(lambda: len(received) == 3)
    assert list(chat.ask("b").text()) == ["Hel", "lo"]


def test_prompts_pipe_into_answers(asked: Asked) -> None:
    chat = asked.chat()
    prompts: Subject[str] = Subject()
    received: list[Part] = []
    stopped: list[Exception] = []
    # The prompt "c" may come before the end of "b" has reached this reader, which it then stops.
    prompts.pipe(answer_each(chat.ask)).subscribe(received.append, stopped.append)
    prompts.on_next("endless")
    assert eventually(lambda: contents(chat)[-1:] == ["One. Two. Thr"])
    prompts.on_next("b")
    assert eventually(lambda: contents(chat)[-1:] == ["Hello"])
    assert contents(chat) == ["endless", "One. Two. Thr", "b", "Hello"]
    two = Stream.of(reactivex.of("c", "d")).pipe(answer_each(chat.ask, "queue"))
    assert [each.text for each in two if isinstance(each, TextDelta)] == ["Hel", "lo"] * 2
    assert contents(chat)[-4:] == ["c", "Hello", "d", "Hello"]


# --- copies ----------------------------------------------------------------------


def test_history_survives_json(asked: Asked) -> None:
    chat = asked.chat(system="s", max_messages=4, interrupted_note="(cut)", when_busy="queue")
    answer = chat.ask("think")
    list(answer)
    data = chat.to_json()
    again = Conversation.from_json(data, asked.client, model="m")
    assert again.messages == chat.messages
    assert again.to_json() == data
    answer.delivered(1)
    again = Conversation.from_json(chat.to_json(), asked.client, model="m", system="t")
    list(again.ask("b"))
    assert contents(again) == ["t", "think", "H", "(cut)\n\nb", "Hello"]
    for wrong in (b"", b"{}", b"[1]"):
        with pytest.raises(ValueError, match="to_json"):
            Conversation.from_json(wrong, asked.client, model="m")


def test_fork_goes_its_own_way(asked: Asked) -> None:
    chat = asked.chat(system="s", id="c1")
    list(chat.ask("a"))
    fork = chat.fork()
    list(fork.ask("b"))
    assert contents(chat) == ["s", "a", "Hello"]
    assert contents(fork) == ["s", "a", "Hello", "b", "Hello"]
    assert fork.id != chat.id
    assert asked.sent()["prompt_cache_key"] == "c1"


def test_max_messages_bounds_request_and_history(asked: Asked) -> None:
    chat = asked.chat(system="s", max_messages=3)
    for prompt in "abc":
        list(chat.ask(prompt))
    assert contents(chat) == ["s", "c", "Hello"]
    assert [each["content"] for each in asked.sent()["messages"]] == ["s", "b", "Hello", "c"]


def test_trim_that_raises_is_the_error_of_the_answer(asked: Asked) -> None:
    def trim(messages: list[Any]) -> list[Any]:
        if len(messages) > 2:
            raise ZeroDivisionError
        return messages

    chat = asked.chat(trim=trim, messages=[UserMessage(content="a"), AssistantMessage(content="b")])
    with pytest.raises(ZeroDivisionError):
        list(chat.ask("c"))


# --- speculation -----------------------------------------------------------------


def test_speculation_is_sent_at_once_and_held_back(asked: Asked) -> None:
    chat = asked.chat()
    speculation = chat.speculate("a")
    assert eventually(lambda: len(asked.server.requests) == 1)
    assert chat.messages == []
    answer = speculation.commit()
    assert chat.messages == []
    assert list(answer.text()) == ["Hel", "lo"]
    assert contents(chat) == ["a", "Hello"]
    assert answer.outcome is not None
    assert len(asked.server.requests) == 1


def test_changed_prompt_is_asked_anew(asked: Asked) -> None:
    chat = asked.chat()
    speculation = chat.speculate("endless")
    assert eventually(lambda: len(asked.server.requests) == 1)
    assert list(speculation.commit("b").text()) == ["Hel", "lo"]
    assert asked.server.requests[0].wait_closed(BOUND)
    assert contents(chat) == ["b", "Hello"]
    with pytest.raises(RuntimeError, match="speculate anew"):
        speculation.commit()


def test_retracted_speculation_leaves_no_trace(asked: Asked) -> None:
    chat = asked.chat()
    speculation = chat.speculate("endless")
    assert eventually(lambda: len(asked.server.requests) == 1)
    speculation.retract()
    assert asked.server.requests[0].wait_closed(BOUND)
    assert chat.messages == []
    with pytest.raises(RuntimeError):
        speculation.commit()


def test_dropped_speculation_is_cancelled(asked: Asked) -> None:
    chat = asked.chat()
    speculation, answer = chat.speculate("endless"), chat.speculate("endless").commit()
    assert eventually(lambda: len(asked.server.requests) == 2)
    del speculation, answer
    assert all(each.wait_closed(BOUND) for each in asked.server.requests)


def test_waiting_speculation_is_cancelled_when_it_is_closed(asked: Asked) -> None:
    chat, received = asked.chat(when_busy="queue"), list[object]()
    begun(chat.ask("endless"), received)
    answer = chat.speculate("endless").commit()
    answer.subscribe()
    assert eventually(lambda: len(asked.server.requests) == 2)
    answer.close()
    assert asked.server.requests[1].wait_closed(BOUND)
    assert not asked.server.requests[0].closed


@pytest.mark.parametrize("is_async", [False, True])
def test_speculation_runs_no_tool_before_it_is_read(asked: Asked, is_async: bool) -> None:
    ran: list[str] = []

    async def allow(_: object) -> bool:
        ran.append("approved")
        return True

    def weather() -> str:
        ran.append("ran")
        return "sunny"

    approve = allow if is_async else lambda _: ran.append("approved") or True
    chat = asked.chat(tools=[weather], approve=approve)
    speculation = chat.speculate("use weather")
    assert eventually(lambda: len(asked.server.requests) == 1)
    assert eventually(lambda: speculation._shared._shared_run.history.last_id >= 4)
    assert ran == []
    assert list(speculation.commit().text()) == ["Wait. ", "Done."]
    assert ran == ["approved", "ran"]
    assert problems(chat.messages) == []


def test_operator_that_ends_early_loses_nothing(asked: Asked) -> None:
    chat = asked.chat()
    assert list(chat.ask("fast").text().pipe(ops.take(2))) == ["w0 ", "w1 "]
    assert contents(chat)[-1] == "w0 w1 "
    assert chat.ask("endless").text().pipe(ops.first()).run() == "One. "


def test_text_operator_is_refused_on_parts(asked: Asked) -> None:
    with pytest.raises(TypeError):
        list(asked.chat(messages=[SystemMessage(content="s")]).ask("a").pipe(text()))
