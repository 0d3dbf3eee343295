"""The body of a scripted response, checked as the reader of a socket checks it.

block ──▶ the status and the first bytes are checked (`read_head`) ──▶ block, or the error
"""

from __future__ import annotations

from collections.abc import Iterable

from reactivex import abc

from ..wire.reader import Response
from ..wire.response import ResponseBody, read_head
from .compiler import CompiledScript

__all__ = ["ScriptedBody", "response_of"]


def response_of(script: CompiledScript) -> Response:
    """Returns the response whose head a script sends."""
    response = Response()
    response.status_code = script.status
    response.headers.update(script.headers.items())
    return response


class ScriptedBody(abc.ObserverBase[bytes]):
    """An observer that passes on the blocks of a body, once its head has been checked."""

    def __init__(self, observer: abc.ObserverBase[bytes], any_body: bool = False) -> None:
        self._observer = observer
        self._any_body = any_body
        self._response: Response | None = None  # while its body is to be checked
        self._blocks: list[bytes] = []  # held back meanwhile

    def on_response(self, response: Response) -> None:
        """Starts the body; called when the headers have arrived."""
        if not (self._any_body and _is_success(response)):
            self._response = response

    def on_next(self, value: bytes) -> None:
        if self._response is None:
            self._emit(value)
            return
        self._blocks.append(value)
        if not _is_success(self._response):
            return  # the whole body belongs to the error
        try:
            head = read_head(self._response, _PushedBody(self._blocks, _MoreNeededError()))
        except _MoreNeededError:
            return
        self._response = None
        self._emit(head)

    def on_error(self, error: Exception) -> None:
        self._end(self._error_at_end(error))

    def on_completed(self) -> None:
        self._end(self._error_at_end(None))

    def _error_at_end(self, error: Exception | None) -> Exception | None:
        response, self._response = self._response, None
        if response is None:
            return error
        try:
            head = read_head(response, _PushedBody(self._blocks, error))
            if head:
                self._emit(head)
        except Exception as failed_check:
            return failed_check
        return error

    def _emit(self, block: bytes) -> None:
        self._observer.on_next(block)

    def _end(self, error: Exception | None) -> None:
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)


def _is_success(response: Response) -> bool:
    return 200 <= response.status_code < 300


class _MoreNeededError(Exception):
    """An error that more blocks are needed to check a body."""


class _PushedBody(ResponseBody):
    """A body that consists of some blocks, and then of an error, or its end."""

    def __init__(self, blocks: Iterable[bytes], error: Exception | None) -> None:
        self._blocks = iter(blocks)
        self._error = error

    def read(self) -> bytes:
        block = next(self._blocks, b"")
        if not block and self._error is not None:
            raise self._error
        return block
