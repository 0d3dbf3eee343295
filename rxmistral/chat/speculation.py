"""Speculation: the answer to a prompt that may not be final, held back until it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from inspect import isawaitable

from ..completions.parts import Part
from ..models import Message, ToolCall
from ..rx.map_async import is_async_function
from ..rx.stream import Stream
from .answer import Answer
from .run import RunStream
from .tool_runner import Approval, Approve
from .turn import OpenRun, Prompt

__all__ = ["Speculation"]


class Speculation:
    """A prompt that was sent before it was final, and its answer, which is held back.

    ```python
    speculation = chat.speculate("What is the weather in Par")
    answer = speculation.commit("What is the weather in Paris?")    # sends another request
    ```

    Without a reference to it, or to the committed answer, the request is cancelled.
    """

    def __init__(
        self,
        prompt: Prompt,
        messages: list[Message],
        approve: Approve | None,
        run: Callable[[list[Message], Approve | None], RunStream],
        answer: Callable[[Prompt, OpenRun], Answer],
    ) -> None:
        self._is_taken = True  # by an answer that is read, or retracted
        self._is_over = False
        self._prompt: Prompt = prompt
        self._messages = messages
        self._run, self._answer = run, answer  # of the conversation
        self._may_call: Future[None] = Future()  # done when the answer is read
        self._stream = run(messages, _when(self._may_call, approve))
        self._shared = self._stream.shared(linger=0).start()
        self._is_taken = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._prompt!r:.100}>"

    def commit(self, final_prompt: Prompt | None = None) -> Answer:
        """Returns the answer, as `ask` would return it: it begins when it is read.

        The reader first receives what has arrived. If the prompt or the history has changed,
        the request is cancelled, and another one is sent.

        Args:
            final_prompt: The final prompt; None: it has not changed.

        Raises:
            RuntimeError: The speculation was retracted or committed before.
        """
        prompt = self._prompt if final_prompt is None else final_prompt
        answer = self._answer(prompt, self._take)
        if self._is_over:
            raise RuntimeError("a speculation can be committed or retracted once: speculate anew")
        self._is_over = True
        return answer

    def retract(self) -> None:
        """Cancels the request, which leaves no trace; without effect on a committed answer."""
        if not self._is_over:
            self._is_over = True
            self._cancel()

    def _take(self, messages: list[Message]) -> tuple[RunStream, Stream[Part]]:
        if messages != self._messages:
            self._cancel()
            stream = self._run(messages, None)
            return stream, stream
        self._is_taken = True
        self._may_call.set_result(None)
        return self._stream, self._shared.view("wait")

    def _cancel(self) -> None:
        self._is_taken = True
        self._shared.stop()
        self._may_call.cancel()

    def __del__(self) -> None:
        if not self._is_taken:
            self._cancel()


def _when(may_call: Future[None], approve: Approve | None) -> Approve:
    """Returns an `approve` that first waits until calls may run."""
    if approve is not None and not is_async_function(approve):
        ask = approve

        def approved(call: ToolCall) -> Approval | Awaitable[Approval]:  # runs on a thread
            may_call.result()
            return ask(call)

        return approved

    async def approved_later(call: ToolCall) -> Approval:
        await asyncio.shield(asyncio.wrap_future(may_call))
        if approve is None:
            return True
        answer = approve(call)
        return await answer if isawaitable(answer) else answer

    return approved_later
