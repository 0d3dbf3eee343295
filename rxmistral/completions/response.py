"""Completions to what they add up to: snapshots, the response, its usage and finish_reason."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from ..models import ChatCompletionResponse, CompletionEvent, UsageInfo
from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from .accumulator import CompletionAccumulator
from .choice import check_choice, completions_for

__all__ = ["finish_reason", "snapshots", "to_response", "usage"]


def snapshots() -> Callable[[Observable[CompletionEvent]], Stream[ChatCompletionResponse]]:
    """Completions into growing responses.

        --"Hel"----"lo"------stop-------|->
        --"Hel"----"Hello"---"Hello"----|->

    Emits: a `ChatCompletionResponse` for each completion, with everything received so far of
        all `n` answers. A snapshot that is released before the next one costs next to nothing,
        however long the text is; each one that you keep has its own copy of the text.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo() as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     [response.choices[0].message.content for response in answer.pipe(snapshots())]
    ['', 'Hel', 'Hello', 'Hello']
    """
    return machine_operator(_Snapshots, completions_for("snapshots"))


class _Snapshots(StateMachine[CompletionEvent, ChatCompletionResponse]):
    def __init__(self) -> None:
        self._received = CompletionAccumulator()

    def feed(self, event: CompletionEvent) -> tuple[ChatCompletionResponse]:
        self._received.feed(event.data)
        return (self._received.snapshot(),)


def to_response() -> Callable[[Observable[CompletionEvent]], Stream[ChatCompletionResponse]]:
    """Completions into the one response that they add up to.

        --"Hel"--"lo"--stop-|->
        --------------------"Hello"|->

    Emits: the response that the endpoint returns without streaming: message with text,
        thinking and tool calls, usage, finish_reason, of all `n` answers.
    Holds: everything.
    Errors: as the source does, without a response: a `StreamError` has in its `.partial`
        what had arrived.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo() as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     answer.pipe(to_response()).run().choices[0].message.content
    'Hello'
    """
    return machine_operator(_WholeResponse, completions_for("to_response"))


class _WholeResponse(StateMachine[CompletionEvent, ChatCompletionResponse]):
    def __init__(self) -> None:
        self._received = CompletionAccumulator()

    def feed(self, event: CompletionEvent) -> tuple[()]:
        self._received.feed(event.data)
        return ()

    def close(self) -> list[ChatCompletionResponse]:
        return [self._received.response(complete=True)] if self._received.has_chunks else []

    def close_after_error(self) -> tuple[()]:
        return ()  # the error has the `partial` of a broken answer


def usage() -> Callable[[Observable[CompletionEvent]], Stream[UsageInfo]]:
    """Completions into their token usage, at the end.

        --a--b--{usage}-|->
        ----------------usage|->

    Emits: the last `UsageInfo`, or nothing if the service sent none.
    Holds: the latest one.
    Errors: as the source does, without the usage: a `StreamError` has it in `.partial`.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk
    >>> event = CompletionEvent(data=CompletionChunk(usage=UsageInfo(total_tokens=3)))
    >>> reactivex.of(event).pipe(usage()).run().total_tokens
    3
    """
    return machine_operator(_LatestUsage, completions_for("usage"))


class _LatestUsage(StateMachine[CompletionEvent, UsageInfo]):
    def __init__(self) -> None:
        self._latest: UsageInfo | None = None

    def feed(self, event: CompletionEvent) -> tuple[()]:
        self._latest = event.data.usage or self._latest
        return ()

    def close(self) -> list[UsageInfo]:
        return [] if self._latest is None else [self._latest]

    def close_after_error(self) -> tuple[()]:
        return ()


def finish_reason(choice: int = 0) -> Callable[[Observable[CompletionEvent]], Stream[str]]:
    """Completions into the reason why one answer ended.

        --a--b--c(stop)--usage-|->
        --------"stop"---------|->

    Args:
        choice: Index of the answer among the `n` answers.

    Emits: "stop", "length", "model_length", "tool_calls", "error", or a newer word; once,
        even if the service repeats it.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo() as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     answer.pipe(finish_reason()).run()
    'stop'
    """
    check_choice(choice)
    return machine_operator(lambda: _FinishReasons(choice), completions_for("finish_reason"))


class _FinishReasons(StateMachine[CompletionEvent, str]):
    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._latest: str | None = None

    def feed(self, event: CompletionEvent) -> list[str]:
        reasons: list[str] = []
        for each in event.data.choices:
            if each.finish_reason and (each.index or 0) == self._choice:
                if each.finish_reason != self._latest:
                    reasons.append(each.finish_reason)
                self._latest = each.finish_reason
        return reasons
