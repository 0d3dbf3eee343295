"""A chat in a terminal.

prompt ──▶ answer ──▶ prompt ...    Ctrl-C: stops the answer, or clears the line; twice: leaves
                                    Ctrl-D: leaves
"""

from __future__ import annotations

from ..chat.answer import Answer
from ..chat.conversation import Conversation
from ..completions.parts import TextDelta, ThinkingDelta
from ..errors import MistralError
from .answers import figures, printer_for
from .prompts import has_typed, prepare_prompts, read_prompt
from .screen import Screen, print_to_stderr

__all__ = ["run_chat"]

_HELP = "Ctrl-C stops an answer, Ctrl-D leaves; a backslash at the end of a line continues it."


def run_chat(chat: Conversation, screen: Screen, *, stats: bool = False) -> None:
    """Answers the prompts of a terminal, until Ctrl-D.

    An error of an answer is shown in one line. Its prompt stays in the history, together with
    the next one.

    Args:
        chat: The conversation.
        screen: Shows the answers.
        stats: Whether to print figures about each answer to stderr.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed twice.
    """
    prepare_prompts()
    print_to_stderr(f"A chat with {chat.model}. {_HELP}")
    is_interrupted = False  # since the latest prompt
    while True:
        is_reading = True
        try:
            prompt = read_prompt()
            is_reading = False
            if prompt.strip():
                is_interrupted = False
                _show(chat.ask(prompt), screen, stats)
        except EOFError:
            screen.write("\n")
            return
        except KeyboardInterrupt:
            if is_interrupted and not (is_reading and has_typed()):
                screen.write("\n")
                raise
            is_interrupted = True
            if is_reading:
                screen.write("\n")
            print_to_stderr("Ctrl-C again leaves the chat.")
        except (MistralError, ValueError) as error:
            print_to_stderr(f"rxmistral: {' '.join(str(error).split())}")


def _show(answer: Answer, screen: Screen, stats: bool) -> None:
    """Shows an answer, and before it, dim, the thinking of the model."""
    printer = printer_for(screen)
    chunks = 0
    is_thinking = False
    try:
        with answer:
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
    outcome = answer.outcome
    if stats and outcome is not None:
        print_to_stderr(figures(outcome, chunks))
