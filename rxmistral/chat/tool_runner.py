"""Runs the tool calls of a model: functions on threads, coroutines on the event loop.

call ──▶ is there such a tool? ──▶ approve(call) ──▶ call_with(arguments) ──▶ ToolReturned
                 │                      │                     │
                 └──────────────────────┴─────────────────────┴──▶ ToolFailed

A plain function may block, so it gets a thread, which is abandoned if the run ends first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import nullcontext, suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any, TypeAlias, cast

from ..completions.tool_parts import ToolFailed, ToolProgress, ToolReturned
from ..models import ToolCall
from ..rx.map_async import is_async_function, results_of
from ..rx.reused_threads import run_on_thread
from .settings import Telemetry
from .tools import FunctionTool, ToolError, result_text

__all__ = ["Approval", "Approve", "ToolPart", "ToolRunner"]

Approval: TypeAlias = bool | str
Approve: TypeAlias = Callable[[ToolCall], Approval | Awaitable[Approval]]
ToolPart: TypeAlias = ToolReturned | ToolFailed | ToolProgress


class ToolRunner:
    """A runner of the tool calls of one run.

    Args:
        functions: The tools by name.
        approve: Asked before each call; None: all calls run.
        telemetry: Observes each call that runs; None: nothing does.
    """

    def __init__(
        self,
        functions: Mapping[str, FunctionTool[..., Any]],
        approve: Approve | None,
        telemetry: Telemetry | None,
    ) -> None:
        self._functions = functions
        self._approve = approve
        self._observe = nullcontext if telemetry is None else telemetry.execute_tool
        # One plain function at a time asks: two questions at once on a terminal would be mixed up.
        self._asking = asyncio.Lock()

    async def run(self, call: ToolCall) -> AsyncIterator[ToolPart]:
        """Yields the progress of a call, and then its result or failure.

        Any error but a `ToolError` is raised.
        """
        try:
            refusal = await self._refusal(call)
            if refusal is not None:
                yield ToolFailed(call, _sendable(refusal))
                return
            latest: list[Any] = []  # at most one item: it is the result if no other one follows
            with self._observe(call):
                async for item in self._results(call):
                    if latest:
                        yield ToolProgress(call, latest.pop())
                    latest.append(item)
                content = result_text(latest.pop() if latest else None)
        except ToolError as error:
            yield ToolFailed(call, _sendable(str(error)) or "the tool failed")
        else:
            yield ToolReturned(call, _sendable(content))

    async def _refusal(self, call: ToolCall) -> str | None:
        """Returns the reason for which a call does not run, or None."""
        if call.function.name not in self._functions:
            names = ", ".join(self._functions) or "none"
            return f"there is no tool {call.function.name!r}; available tools: {names}"
        if self._approve is None:
            return None
        answer: object
        if is_async_function(self._approve):
            answer = self._approve(call)
        else:
            async with self._asking:
                answer = await _on_thread(partial(self._approve, call))
        if isawaitable(answer):
            answer = await answer
        if isinstance(answer, str):
            return answer or "not approved"
        if not isinstance(answer, bool):
            raise TypeError(
                f"approve must return True, False or a str, got {type(answer).__name__}"
            )
        return None if answer else "not approved"

    async def _results(self, call: ToolCall) -> AsyncIterator[Any]:
        tool = self._functions[cast("str", call.function.name)]
        invoke: Callable[[], object] = partial(tool.call_with, call.function.arguments)
        if not is_async_function(tool.__wrapped__):
            result = await _on_thread(invoke)
            invoke = lambda: result  # noqa: E731
        results = results_of(invoke)
        try:
            async for item in results:
                yield item
        finally:
            await results.aclose()


def _sendable(text: str) -> str:
    """Returns a text that UTF-8 can express.

    A file name may contain half of a surrogate pair, and a history with it could not be sent.
    """
    return text.encode("utf-8", "replace").decode()


async def _on_thread(work: Callable[[], object]) -> object:
    """Runs a function on a thread, in a copy of this context, and returns its result."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[object, BaseException | None]] = loop.create_future()

    def end(result: object, error: BaseException | None) -> None:
        if not ended.done():  # else it was cancelled
            ended.set_result((result, error))

    def report(result: object, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the event loop is closed, and nothing waits for it
            loop.call_soon_threadsafe(end, result, error)

    def do() -> None:
        try:
            result = context.run(work)
        except BaseException as error:
            report(None, error)
        else:
            report(result, None)

    context = copy_context()
    run_on_thread(do, partial(report, None), name="rxmistral-tool", daemon=True)
    result, error = await ended
    if isinstance(error, Exception):
        raise error
    if error is not None:
        raise RuntimeError(f"a function on a thread raised {error!r}") from error
    return result
