"""Markdown in a terminal, rendered by `rich` while it arrives.

    text ──▶ BlockSplitter ──▶ finished blocks, rendered once and never touched again
                    └────────▶ the open block, rendered anew with each piece of text

Strategy: `rich.live` draws a whole answer again and again, so it flickers, and an answer that is
taller than the screen is cut or repeated in the scrollback. Here, only the open block is drawn
again: its rows that have changed, and not more of its rows than fit on the screen. When it is
finished, it is drawn once as a whole.
"""

from __future__ import annotations

import re
from os.path import commonprefix

from markdown_it import MarkdownIt
from rich.console import Console
from rich.markdown import Markdown

from .screen import Screen, replace_control_characters

__all__ = ["BlockSplitter", "MarkdownPrinter"]

_split_lines = re.compile(r"[^\n]*\n|[^\n]+").findall

# CommonMark 0.31, 4.5, but with any indentation, and in a list item.
_match_fence = re.compile(r"\s*(?:(?:[-*+]|\d{1,9}[.)])\s+)?(`{3,}(?=[^`]*\Z)|~{3,})").match

# rich leaves out HTML, definitions of links and the URLs of images, and repeats URLs in <>. So
# they are parsed as text.
_parser = MarkdownIt("commonmark", {"html": False})
_parser.enable(["strikethrough", "table"]).disable(["autolink", "image", "reference"])

# Without the automatic wrap, a row is one row, even if the terminal draws a character wider than
# rich measures it. A finished block is drawn with it, since a row without it would be cut.
_WRAP_OFF, _WRAP_ON = "\x1b[?7l", "\x1b[?7h"


class BlockSplitter:
    """A splitter of Markdown, with line feeds only, into blocks that are rendered on their own.

    A block ends at blank lines, if the next line is not indented and no fence is open; a code
    block that is not indented is a block. So an item of a list is whole, and the items of a list
    may be several blocks.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []  # the pieces of the current one
        self._fence: re.Match[str] | None = None  # the opening line of the open fence
        self._is_after_blank = False

    def feed(self, text: str) -> list[str]:
        """Returns the blocks that this text has finished."""
        blocks: list[str] = []
        for piece in _split_lines(text):
            if self._is_after_blank and not self._line and not piece[0].isspace():
                blocks += self._take()
            self._line.append(piece)
            if piece.endswith("\n"):
                blocks += self._end_line()
        return blocks

    def close(self) -> list[str]:
        """Returns the open block, if there is one."""
        self._lines.append("".join(self._line))
        self._line = []
        return self._take()

    def tail(self, max_lines: int, max_characters: int) -> str:
        """Returns the end of the open block; of a code block, with its opening fence."""
        tail = "".join(self._lines[-max_lines:] + self._line)
        is_cut = len(self._lines) > max_lines or len(tail) > max_characters
        return (self._fence.string if self._fence and is_cut else "") + tail[-max_characters:]

    def _end_line(self) -> list[str]:
        line, self._line = "".join(self._line), []
        fence = _match_fence(line)
        if self._fence is None:
            blocks = self._take() if fence and line[0] in "`~" else []
            self._lines.append(line)
            self._fence = fence
            self._is_after_blank = not line.strip()
            return blocks
        self._lines.append(line)
        if fence is None or not self._is_closing(fence, self._fence):
            return []
        self._fence = None
        return self._take() if self._lines[0][0] in "`~" else []

    @staticmethod
    def _is_closing(fence: re.Match[str], opening: re.Match[str]) -> bool:
        line = fence.string.strip()
        return (
            fence.start(1) <= opening.start(1) + 3
            and len(line) >= len(opening[1])
            and not line.strip(opening[1][0])
        )

    def _take(self) -> list[str]:
        block = "".join(self._lines)
        self._lines, self._fence, self._is_after_blank = [], None, False
        return [block] if block.strip() else []


class MarkdownPrinter:
    """A printer that shows an answer as Markdown.

    Args:
        screen: A terminal that understands escape sequences.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._console = Console(force_terminal=True, force_jupyter=False)
        # Its `parsed` is not documented; tried with rich 13.6 and 15.0.
        self._markdown = Markdown("", hyperlinks=False)  # so that URLs can be seen
        self._blocks = BlockSplitter()
        self._has_finished_block = False
        self._shown = ""  # of the open block; the cursor is at its end

    def write(self, piece: str) -> None:
        for block in self._blocks.feed(replace_control_characters(piece)):
            self._finish(block)
        width, height = self._console.size
        rows = self._rendered(self._blocks.tail(height, width * height))
        self._draw("\n".join(rows[-max(height - 1, 1) :]))

    def end_line(self) -> None:
        for block in self._blocks.close():
            self._finish(block)

    def _finish(self, block: str) -> None:
        rows = self._rendered(block)
        self._screen.write_escapes(self._back_to_row(0) + "\n".join(rows) + "\n")
        self._shown = ""
        self._has_finished_block = True

    def _rendered(self, block: str) -> list[str]:
        """Returns the rows of a block, after an empty row if there was another block before."""
        if not block.strip():
            return []
        self._markdown.parsed = _parser.parse(block)
        with self._console.capture() as capture:
            self._console.print(self._markdown)
        rendered = capture.get()
        if not rendered.strip():  # the parser leaves out blocks that are nested too deeply
            rendered = block
        rows = [row.rstrip(" ") for row in rendered.strip("\n").split("\n")]
        return ["", *rows] if self._has_finished_block else rows

    def _draw(self, new: str) -> None:
        """Replaces the text of the open block, from the first row that has changed."""
        if new.startswith(self._shown):
            change = new[len(self._shown) :]
        else:
            same = commonprefix([self._shown, new])  # noqa: RUF071  # of characters
            change = self._back_to_row(same.count("\n")) + new[same.rfind("\n") + 1 :]
        if change:
            self._screen.write_escapes(_WRAP_OFF + change + _WRAP_ON)
            self._shown = new

    def _back_to_row(self, row: int) -> str:
        """Returns the escape sequences that clear the open block, from this row on."""
        up = self._shown.count("\n") - row
        return "\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J"
