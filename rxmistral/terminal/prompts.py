"""Prompts from stdin: the whole of it, or lines that are typed or pasted in a terminal."""

from __future__ import annotations

import sys

try:
    import readline  # edits lines, and keeps them for the arrow keys
except ImportError:  # on Windows, where the terminal does both
    readline = None  # type: ignore[assignment]

__all__ = ["has_typed", "prepare_prompts", "read_prompt", "read_stdin"]


def read_stdin() -> str:
    """Returns all of stdin.

    Raises:
        ValueError: There is no stdin, or it is not text.
    """
    if sys.stdin is None:  # closed by the shell, as in `<&-`
        raise ValueError("there is no stdin to read the prompt from")
    _refuse_undecodable_bytes()
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise _not_text(error) from error


def prepare_prompts() -> None:
    """Prepares the terminal for `read_prompt`."""
    _refuse_undecodable_bytes()
    if readline is not None:
        readline.set_auto_history(False)  # a prompt of several lines is one entry
        if "libedit" not in (readline.__doc__ or ""):
            readline.parse_and_bind("set enable-bracketed-paste on")


def read_prompt() -> str:
    r"""Returns a prompt that is typed or pasted; a backslash at its end continues a line.

    The prompts are kept for the arrow keys, in memory only, since they may be private.

    Raises:
        EOFError: Ctrl-D was pressed.
        KeyboardInterrupt: Ctrl-C was pressed.
        ValueError: The prompt is not text.
    """
    try:
        prompt = input("> ")
        while prompt.endswith("\\"):
            prompt = prompt[:-1] + "\n" + input("... ")
    except UnicodeDecodeError as error:
        raise _not_text(error) from error
    if readline is not None and prompt.strip():
        readline.add_history(prompt)
    return prompt


def has_typed() -> bool:
    """Returns whether the line in which Ctrl-C was pressed had a text."""
    return readline is not None and bool(readline.get_line_buffer())


def _refuse_undecodable_bytes() -> None:
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="strict")  # the C locale would accept any byte


def _not_text(error: UnicodeDecodeError) -> ValueError:
    byte = error.object[error.start]
    return ValueError(f"stdin is not {error.encoding.upper()} text: it has the byte 0x{byte:02x}")
