"""Completions to the parts of one of the `n` answers: deltas, text, thinking."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reactivex import Observable, abc

from ..checks import check_integer
from ..models import CompletionEvent, ContentChunk, DeltaMessage, TextChunk, ThinkChunk
from ..rx.fluent import returning
from ..rx.state_machine import InputType, item_operator
from ..rx.stream import Stream
from ..text.text_stream import TextStream

__all__ = ["check_choice", "completions_for", "deltas", "text", "thinking"]


def deltas(choice: int = 0) -> Callable[[Observable[CompletionEvent]], Stream[DeltaMessage]]:
    """Completions into the deltas of one answer.

        --{0: a}--{1: b}--{}--{0: c, 1: d}-|->
        --a-------------------c------------|->

    Args:
        choice: Index of the answer among the `n` answers.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo() as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     [delta.content for delta in answer.pipe(deltas())]
    ['', 'Hel', 'lo', '']
    """
    check_choice(choice)
    accepted = completions_for("deltas")

    def start(observer: abc.ObserverBase[DeltaMessage]) -> Callable[[CompletionEvent], None]:
        emit = observer.on_next

        def on_next(event: object) -> None:
            if not isinstance(event, CompletionEvent):
                observer.on_error(accepted.error_for(event))
                return
            for each in event.data.choices:
                if (each.index or 0) == choice:
                    emit(each.delta)

        return on_next

    return item_operator(start)


def text(choice: int = 0) -> Callable[[Observable[CompletionEvent]], TextStream]:
    """Completions into the text of one answer, as it arrives.

        --role--"Hel"--[thinking, "lo"]--""--stop-|->
        --------"Hel"------------"lo"-------------|->

    Args:
        choice: Index of the answer among the `n` answers.

    Emits: string contents, and the text parts of content lists; never an empty string.
        Thinking is not text.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo() as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     list(answer.pipe(text()))
    ['Hel', 'lo']
    """
    return _text_operator("text", choice, _texts)


def thinking(choice: int = 0) -> Callable[[Observable[CompletionEvent]], TextStream]:
    """Completions into the reasoning of one answer, as it arrives.

        --[thinking "Let me"]--[thinking " see", "Four"]--"."-|->
        --"Let me"-------------" see"-------------------------|->

    Args:
        choice: Index of the answer among the `n` answers.

    Emits: the text in thinking parts of content lists, also if the server wrote it into
        `reasoning_content` or `reasoning`; never an empty string. References are left out.
        For servers that write their reasoning into the text, see `think_tags`.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk, CompletionResponseStreamChoice
    >>> content = [ThinkChunk(thinking=[TextChunk(text="Let me see")]), TextChunk(text="Four")]
    >>> choices = [CompletionResponseStreamChoice(delta=DeltaMessage(content=content))]
    >>> event = CompletionEvent(data=CompletionChunk(choices=choices))
    >>> reactivex.of(event).pipe(thinking()).run()
    'Let me see'
    """
    return _text_operator("thinking", choice, _thoughts)


def _text_operator(
    name: str, choice: int, texts_in: Callable[[list[ContentChunk]], Iterator[str]]
) -> Callable[[Observable[CompletionEvent]], TextStream]:
    check_choice(choice)
    accepted = completions_for(name)
    accepts_strings = texts_in is _texts

    def start(observer: abc.ObserverBase[str]) -> Callable[[CompletionEvent], None]:
        emit = observer.on_next

        def on_next(event: object) -> None:
            if not isinstance(event, CompletionEvent):
                observer.on_error(accepted.error_for(event))
                return
            for each in event.data.choices:
                content = each.delta.content
                if content and (each.index or 0) == choice:
                    if not isinstance(content, str):
                        for piece in texts_in(content):
                            emit(piece)
                    elif accepts_strings:
                        emit(content)

        return on_next

    return returning(TextStream, item_operator(start))


def _texts(content: list[ContentChunk]) -> Iterator[str]:
    return (part.text for part in content if isinstance(part, TextChunk) and part.text)


def _thoughts(content: list[ContentChunk]) -> Iterator[str]:
    for part in content:
        if isinstance(part, ThinkChunk):
            for thought in part.thinking:
                if isinstance(thought, TextChunk) and thought.text:
                    yield thought.text


def check_choice(choice: object) -> None:
    check_integer("choice", choice, minimum=0)


_REMEDIES = {
    "str": "put it before text()",
    "DeltaMessage": "put it before deltas()",
    "TextDelta": "put it before parts()",
    "ThinkingDelta": "put it before parts()",
    "ServerSentEvent": "put completions() before it",
    "bytes": "put lines(), events() and completions() before it",
}


def completions_for(operator: str) -> InputType:
    own = {"str": "leave the second text() out"} if operator == "text" else {}
    return InputType(operator, CompletionEvent, "completions", _REMEDIES | own)
