"""The history of a conversation, which can be sent at any moment; without Rx, threads and sockets.

    turn      user, or tool ... ──▶ (assistant with calls ──▶ tool ...) ... ──▶ assistant
    history   [system ...]  turn  turn  turn ...

The calls of tools without a function are open at the end of a turn, and the next turn answers them.
Until then, the history contains a substitute for each of these answers.

Strategy: each function here takes messages and returns messages. `fitted` establishes the rules of
Mistral for any list, so that nothing else has to: the other functions may cut or drop what they
like, and their result is fitted once more.

The rules of mistral-common 1.8 (`validator.py`), and of the service: a user message follows a
system message, an assistant message or the beginning; tool messages follow the assistant message
with their calls, one for each call; an assistant message has a text or a call. A user message
directly after a tool message is refused by most models (400, code 3230).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import TypeAlias, cast

import msgspec
from msgspec import structs

from ..completions.parts import TextDelta, ToolCallReady
from ..completions.tool_parts import RoundEnded, ToolFailed, ToolReturned
from ..models import (
    AssistantMessage,
    ContentChunk,
    Message,
    SystemMessage,
    TextChunk,
    ThinkChunk,
    ToolCall,
    ToolMessage,
    UserMessage,
    decode_hook,
)

__all__ = [
    "History",
    "TurnPrompt",
    "as_message",
    "cut",
    "fitted",
    "position_of",
    "received",
    "text_of",
    "with_closed_thinking",
]

TurnPrompt: TypeAlias = UserMessage | list[ToolMessage]
Content: TypeAlias = str | Sequence[ContentChunk]

_ROLES: dict[str, type[Message]] = {
    "system": SystemMessage,
    "user": UserMessage,
    "assistant": AssistantMessage,
    "tool": ToolMessage,
}


def as_message(message: object, place: str) -> Message:
    """Returns a message, also one that was given as a mapping.

    Raises:
        TypeError, ValueError: It is not a message; the text begins with `place`.
    """
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping):
        raise TypeError(
            f"{place} must be a message or a mapping with a role, got {type(message).__name__}"
        )
    kind = _ROLES.get(str(message.get("role")))
    if kind is None:
        raise ValueError(
            f"the role of {place} must be one of {', '.join(_ROLES)}, got {message.get('role')!r}"
        )
    try:
        return msgspec.convert(dict(message), kind, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise ValueError(f"{place} is not a {kind.__name__}: {error}") from None


# --- texts -----------------------------------------------------------------------


def text_of(message: Message) -> str:
    """Returns the text of a message, without its thinking."""
    content = message.content
    if not content:
        return ""
    if isinstance(content, str):
        return content
    return "".join(chunk.text for chunk in content if isinstance(chunk, TextChunk))


def position_of(text: str, whole: str) -> int:
    """Returns the position in an answer at which its beginning `text` ends.

    Blanks may differ, as speakers and sentence splitters change them.

    Raises:
        ValueError: The answer does not begin with this text.

    >>> position_of("One. Two.", "One.  Two. Three.")
    10
    """
    if whole.startswith(text):
        return len(text)
    position = 0
    for character in text:
        if character.isspace():
            continue
        while position < len(whole) and whole[position].isspace():
            position += 1
        if not whole.startswith(character, position):
            raise ValueError(f"text must be the beginning of the answer, got {text!r:.100}")
        position += 1
    return position


def _is_empty(message: AssistantMessage) -> bool:
    return not text_of(message).strip() and not message.tool_calls


# --- a turn, as far as it was delivered ------------------------------------------


def received(parts: Iterable[object], *, has_ended: bool) -> list[Message]:
    """Returns the messages that the parts of a run stand for, without thinking.

    Args:
        parts: The parts that were received so far.
        has_ended: Whether no more will follow. A call without a result is then "cancelled";
            before, it is left out.
    """
    messages: list[Message] = []
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: dict[str | None, str] = {}

    def end_round() -> None:
        ended = [call for call in calls if has_ended or call.id in results]
        messages.append(AssistantMessage(content="".join(texts), tool_calls=ended or msgspec.UNSET))
        messages.extend(_result(call, results.get(call.id, _CANCELLED)) for call in ended)

    for part in parts:
        match part:
            case TextDelta(text):
                texts.append(text)
            case ToolCallReady(call):
                calls.append(call)
            case ToolReturned(call, result) | ToolFailed(call, result):
                results[call.id] = result
            case RoundEnded():
                end_round()
                texts, calls, results = [], [], {}
            case _:
                pass
    end_round()
    return messages


_CANCELLED = "cancelled"


def _result(call: ToolCall, content: str) -> ToolMessage:
    name = call.function.name or msgspec.UNSET
    return ToolMessage(content=content, tool_call_id=call.id, name=name)


def cut(messages: Iterable[Message], characters: int, *, is_whole: bool) -> list[Message]:
    """Returns the messages of an answer as far as this position in its whole text.

    Tool calls and their results stay, wherever the position is: the tools have run. A message
    that is cut loses its thinking, which Mistral accepts only with the text that it led to.

    Args:
        messages: The messages of the model and of the tools.
        characters: The number of characters to keep.
        is_whole: Whether the last message is whole.

    >>> cut([AssistantMessage(content="Hello")], 4, is_whole=True)[0].content
    'Hell'
    """
    kept: list[Message] = []
    for message in messages:
        if isinstance(message, AssistantMessage):
            text = text_of(message)
            is_cut = len(text) > characters or not (is_whole or message.tool_calls)
            if is_cut:
                message = structs.replace(message, content=text[:characters])
            characters = max(0, characters - len(text))
        kept.append(message)
    return kept


# --- rules -----------------------------------------------------------------------


def fitted(messages: Iterable[Message], interrupted: str) -> list[Message]:
    """Returns messages that can be sent, once a user message follows.

    If the last one is a user or tool message, they can be sent as they are.

    Calls without an answer, answers without a call and empty assistant messages are left out.
    Messages of one role that follow each other become one. Between a tool message and a user message
    an assistant message says `interrupted`.
    """
    fit: list[Message] = []
    for message in _paired(list(messages)):
        previous = fit[-1] if fit else None
        if isinstance(message, UserMessage):
            if isinstance(previous, UserMessage):
                fit[-1] = _merged(previous, message)
                continue
            if isinstance(previous, ToolMessage):
                fit.append(AssistantMessage(content=interrupted))
        elif isinstance(message, AssistantMessage) and isinstance(previous, AssistantMessage):
            # The calls between them were left out.
            content = _joined(previous.content or "", message.content or "")
            fit[-1] = structs.replace(message, content=content)
            continue
        fit.append(message)
    return fit


def _paired(messages: Sequence[Message]) -> Iterable[Message]:
    """Yields the messages without unanswered calls, stray answers and empty assistant messages."""
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            continue  # yielded after its call
        if not isinstance(message, AssistantMessage):
            yield message
            continue
        answers = list(takewhile(lambda each: isinstance(each, ToolMessage), messages[index + 1 :]))
        calls, results = _answered(message.tool_calls or (), cast("list[ToolMessage]", answers))
        if message.tool_calls and len(calls) < len(message.tool_calls):
            message = structs.replace(message, tool_calls=calls or msgspec.UNSET)
        if not _is_empty(message):
            yield with_closed_thinking(message)
            yield from results


def _answered(
    calls: Iterable[ToolCall], answers: list[ToolMessage]
) -> tuple[list[ToolCall], list[ToolMessage]]:
    """Returns the calls that have an answer, and the answer to each, in the order of the calls."""
    kept, results = [], []
    for call in calls:
        for answer in answers:
            if (answer.tool_call_id or None) == (call.id or None):
                answers.remove(answer)
                kept.append(call)
                results.append(answer)
                break
    return kept, results


def with_closed_thinking(message: AssistantMessage) -> AssistantMessage:
    """Returns a message whose thinking is marked as closed, as Mistral requires it."""
    content = message.content
    if not content or isinstance(content, str):
        return message
    closed: list[ContentChunk] = [
        structs.replace(chunk, closed=True)
        if isinstance(chunk, ThinkChunk) and chunk.closed is None
        else chunk
        for chunk in content
    ]
    return structs.replace(message, content=closed)


def _merged(first: UserMessage, second: UserMessage) -> UserMessage:
    return UserMessage(content=_joined(first.content or "", second.content or ""))


def _joined(first: Content, second: Content) -> Content:
    if isinstance(first, str) and isinstance(second, str):
        return "\n\n".join(filter(None, (first, second)))
    return [*_chunks(first), *_chunks(second)]


def _chunks(content: Content) -> Sequence[ContentChunk]:
    if isinstance(content, str):
        return [TextChunk(text=content)] if content else []
    return content


# --- open calls ------------------------------------------------------------------


def open_calls(messages: Sequence[Message]) -> list[ToolCall]:
    """Returns the calls at the end of messages that have no answer."""
    answered = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
            continue
        calls = (isinstance(message, AssistantMessage) and message.tool_calls) or ()
        return [call for call in calls if call.id not in answered]
    return []


def _with_answers(messages: list[Message], answers: Iterable[ToolMessage] = ()) -> list[Message]:
    """Returns messages in which all calls have an answer: one of these, or "cancelled".

    Raises:
        ValueError: An answer has no open call.
    """
    calls = {call.id: call for call in open_calls(messages)}
    given: dict[object, ToolMessage] = {}
    for answer in answers:
        call = calls.get(answer.tool_call_id or None)
        if call is None or call.id in given:
            ids = ", ".join(str(each) for each in calls if each not in given) or "none"
            raise ValueError(
                f"no open tool call has the id {answer.tool_call_id!r}; open calls: {ids}"
            )
        given[call.id] = structs.replace(answer, name=call.function.name or msgspec.UNSET)
    return [
        *messages,
        *(given.get(key) or _result(call, _CANCELLED) for key, call in calls.items()),
    ]


# --- the history -----------------------------------------------------------------


class History:
    """The messages of the turns that are over, and those of the latest turn.

    Args:
        messages: The messages of earlier turns.
        interrupted: The text of the assistant message between a tool's answer and a user turn.
        note: What is added to the user turn after a turn that was cut; None: nothing.
        is_cut: Whether the last turn in `messages` was cut.
    """

    def __init__(
        self,
        messages: Iterable[Message],
        interrupted: str,
        note: str | None = None,
        is_cut: bool = False,
    ) -> None:
        self.interrupted = interrupted
        self._note = note
        self._turns = list(messages)  # with the prompt of the latest turn
        self._answer: list[Message] = []
        self.is_cut = is_cut  # something of the latest answer is here, and not all of it

    def messages(self) -> list[Message]:
        return self._fitted(_with_answers(self._kept()))

    def open_calls(self) -> list[ToolCall]:
        """Returns the calls that `messages` answers with "cancelled", and that may be answered."""
        return open_calls(self._kept())

    def with_turn(self, prompt: TurnPrompt) -> list[Message]:
        """Returns the messages to send in a new turn, which does not begin yet.

        Raises:
            ValueError: The prompt answers a call that is not open.
        """
        if isinstance(prompt, list):
            return self._fitted(_with_answers(self._kept(), prompt))
        if self.is_cut and self._note:
            prompt = _merged(UserMessage(content=self._note), prompt)
        return self._fitted([*_with_answers(self._kept()), prompt])

    def begin(self, messages: list[Message]) -> None:
        """Begins a turn, with the messages that are sent."""
        self._turns, self._answer, self.is_cut = messages, [], False

    def answer(self, messages: Iterable[Message], *, is_whole: bool) -> None:
        """Replaces the answer of the latest turn."""
        self._answer = list(messages)
        self.is_cut = not is_whole and bool(self._fitted(_with_answers(self._answer)))

    def _kept(self) -> list[Message]:
        return [*self._turns, *self._answer]

    def _fitted(self, messages: Iterable[Message]) -> list[Message]:
        return fitted(messages, self.interrupted)
