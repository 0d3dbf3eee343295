"""TerminalChat: prompts and answers, one after the other.

prompt ──▶ answer ──▶ prompt ...    Ctrl-C: stops the answer, or clears the line; twice: leaves
                                    Ctrl-D: leaves
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ..chat.answer import Answer
from ..chat.conversation import Conversation
from ..completions.parts import TextDelta, ThinkingDelta
from ..errors import MistralError, StoppedError
from .printer import figures, printer_for
from .prompts import ClearedLine, hidden_keys, prepare_prompts, read_prompt
from .screen import Screen, print_error, print_to_stderr

__all__ = ["TerminalChat"]

_HELP = "Ctrl-C stops an answer, Ctrl-D leaves; a backslash at the end of a line continues it."


class TerminalChat:
    """A chat in a terminal.

    An error of an answer is shown in one line. Its prompt stays in the history, together with
    the next one.

    Args:
        conversation: The conversation that answers the prompts.
        screen: The screen that shows the answers.
        stats: Whether to print figures about each answer to stderr.
    """

    def __init__(self, conversation: Conversation, screen: Screen, *, stats: bool = False) -> None:
        self._conversation = conversation
        self._screen = screen
        self._stats = stats
        self._is_interrupted = False  # by Ctrl-C, since the latest prompt

    def run(self) -> None:
        """Answers prompts until Ctrl-D.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        prepare_prompts()
        print_to_stderr(f"A chat with {self._conversation.model}. {_HELP}")
        while True:
            try:
                prompt = read_prompt()
                if prompt.strip():
                    self._is_interrupted = False
                    self._answer(prompt)
            except EOFError:
                self._screen.write("\n")
                return
            except KeyboardInterrupt as error:
                self._screen.write("\n")
                if self._is_interrupted and not isinstance(error, ClearedLine):
                    raise
                self._interrupt()
            except (MistralError, ValueError) as error:
                print_error(error)

    def _interrupt(self) -> None:
        self._is_interrupted = True
        print_to_stderr("Ctrl-C again leaves the chat.")

    def _answer(self, prompt: str) -> None:
        answer = self._conversation.ask(prompt)
        with self._closed_by_ctrl_c(answer), hidden_keys():
            chunks = self._show(answer)
            if self._stats and answer.outcome is not None:
                print_to_stderr(figures(answer.outcome, chunks))
        if self._is_interrupted:
            self._interrupt()

    @contextmanager
    def _closed_by_ctrl_c(self, answer: Answer) -> Iterator[None]:
        """Closes an answer at the end of the block, or at Ctrl-C.

        A KeyboardInterrupt would be lost if it were raised in a finalizer. Only the second Ctrl-C
        raises it.
        """

        def close(*_: object) -> None:
            signal.signal(signal.SIGINT, default)
            self._is_interrupted = True
            answer.close()

        default = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, close)
        try:
            with answer:
                yield
        except StoppedError:  # it was closed before it was read
            if not self._is_interrupted:
                raise
        finally:
            signal.signal(signal.SIGINT, default)

    def _show(self, answer: Answer) -> int:
        """Shows the thinking in dim text, and the answer; returns the number of chunks."""
        screen, printer = self._screen, printer_for(self._screen)
        chunks = 0
        is_thinking = False
        try:
            for part in answer:
                match part:
                    case ThinkingDelta(text):
                        if not is_thinking:
                            printer.end_line()
                        screen.write_dim(text)
                    case TextDelta(text):
                        if is_thinking:
                            screen.end_line()
                            screen.write("\n")
                        printer.write(text)
                    case _:
                        continue
                is_thinking = isinstance(part, ThinkingDelta)
                chunks += 1
        finally:
            printer.end_line()
            screen.end_line()
            screen.write("\n")
        return chunks
