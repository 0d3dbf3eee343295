"""Prompts that are typed or pasted in a terminal."""

from __future__ import annotations

from .stdin import refuse_undecodable_bytes, undecodable

try:
    import readline  # edits lines, and keeps them for the arrow keys
except ImportError:  # on Windows, where the terminal does both
    readline = None  # type: ignore[assignment]

__all__ = ["ClearedLine", "prepare_prompts", "read_prompt"]


class ClearedLine(KeyboardInterrupt):
    """Ctrl-C was pressed in a prompt that had text."""


def prepare_prompts() -> None:
    """Prepares the terminal for `read_prompt`."""
    refuse_undecodable_bytes()
    if readline is not None:
        readline.set_auto_history(False)  # a prompt of several lines is one entry
        if "libedit" not in (readline.__doc__ or ""):
            readline.parse_and_bind("set enable-bracketed-paste on")


def read_prompt() -> str:
    r"""Returns a prompt that is typed or pasted; a backslash at its end continues a line.

    The prompts are kept for the arrow keys, in memory only, since they may be private.

    Raises:
        EOFError: Ctrl-D was pressed.
        KeyboardInterrupt: Ctrl-C was pressed; a `ClearedLine` if the prompt had text.
        ValueError: The prompt is not text.
    """
    prompt = ""
    try:
        prompt = input("> ")
        while prompt.endswith("\\"):
            prompt = prompt[:-1] + "\n" + input("... ")
    except KeyboardInterrupt:
        if prompt or (readline is not None and readline.get_line_buffer()):
            raise ClearedLine from None
        raise
    except UnicodeDecodeError as error:
        raise undecodable(error) from error
    if readline is not None and prompt.strip():
        readline.add_history(prompt)
    return prompt
