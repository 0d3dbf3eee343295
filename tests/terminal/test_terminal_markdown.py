"""Markdown in a terminal: its blocks, and what the terminal shows of them in the end."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from cuts import cut, every_way, through
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rxmistral.terminal.markdown import BlockSplitter, MarkdownPrinter
from rxmistral.terminal.screen import Screen

# --- blocks ------------------------------------------------------------------------------

BLOCKS = {
    "paragraphs": ["\n\nOne\ntwo\n\n", "Three\n \n\n", "four"],
    "an item with paragraphs": ["- One\n\n  two\n\n", "- Three\n\n\tfour\n\n", "Five"],
    "a code block with blank lines": ["One\n", "```py\n\na\n\n\nb\n```\n", "Two"],
    "fences of other kinds": ["~~~~\n```\n~~~\n\nb\n~~~~~\n", "Two"],
    "a fence in the code of another": ["```md\n    ```\n\n`````\n", "Two"],
    "an inline fence": ["```a` b```\n\n", "Two"],
    "a code block in an item": ["1. ```\n   a\n\nb\n   ```\n\n", "Two"],
    "a code block that is not closed": ["```\na\n\nb"],
}


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_block_ends_when_the_next_one_begins(blocks: list[str]) -> None:
    for pieces in every_way("".join(blocks)):
        assert [block.lstrip("\n") for block in through(BlockSplitter(), pieces)] == [
            block.lstrip("\n") for block in blocks
        ]


def test_tail_of_a_code_block_has_its_fence() -> None:
    splitter = BlockSplitter()
    splitter.feed("```py\na\nb\nc\nd")
    assert splitter.tail(2, 100) == "```py\nb\nc\nd"
    assert splitter.tail(9, 3) == "```py\nc\nd"
    assert splitter.tail(9, 100) == "```py\na\nb\nc\nd"


# --- what is shown -----------------------------------------------------------------------


class Display(Screen):
    """A terminal with the escape sequences that MarkdownPrinter needs, and no others.

    Args:
        columns: The width in cells.
        rows: The height.
        wide: Characters that it draws in two cells, and rich measures as one.

    Attributes:
        lines: The lines, those that have left the screen included.
    """

    def __init__(self, columns: int, rows: int, wide: str = "") -> None:
        self.lines = [""]
        self._row = 0
        self._columns, self._rows, self._wide = columns, rows, wide
        self._wraps = True

    def write_escapes(self, piece: str) -> None:
        for code, text in re.findall(r"(\r|\n|\x1b\[[?\d;]*[a-zA-Z])|([^\r\n\x1b]+)", piece):
            if text:
                self._print(text)
            elif code == "\n":
                self._feed_line()
            elif code == "\x1b[J":  # at the beginning of a line, here
                self.lines[self._row :] = [""]
            elif code.endswith("A"):
                self._row -= int(code[2:-1])
                assert self._row >= len(self.lines) - self._rows, "the row has left the screen"
            elif code in ("\x1b[?7l", "\x1b[?7h"):
                self._wraps = code.endswith("h")
            else:
                assert code == "\r" or code.endswith("m"), code

    def _print(self, text: str) -> None:
        assert text.isprintable()
        for character in text:
            if self._cells(self.lines[self._row] + character) > self._columns:
                if not self._wraps:
                    return
                self._feed_line()
            self.lines[self._row] += character

    def _feed_line(self) -> None:
        self._row += 1
        self.lines[self._row :] = self.lines[self._row :] or [""]

    def _cells(self, text: str) -> int:
        return cell_len(text) + sum(map(text.count, self._wide))


def shown(
    pieces: Iterable[str], monkeypatch: pytest.MonkeyPatch, columns: int = 80, rows: int = 24
) -> list[str]:
    """Returns the lines that an answer leaves on a terminal, without blanks at their ends."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    display = Display(columns, rows)
    printer = MarkdownPrinter(display)
    for piece in pieces:
        printer.write(piece)
    printer.end_line()
    assert display.lines.pop() == ""
    return [line.rstrip() for line in display.lines]


FRAGMENTS = [
    "# Title\n", "word ", "words that are more than a narrow row\n", "\n", "- item\n", "  nested\n",
    "10. ten\n", "```py\n", "x = '''\n", "```\n", "    indented\n", "| a | b |\n|---|---|\n",
    "| 1 | 漢字漢字 |\n", "> quote\n", "**bold *it* ~~x~~**\n", "漢字かな漢字かな漢字かな\n", "é😀",
    "[red]x[/red] [a](http://b.c/d)\n", "\x1b[2J\x07\r\n", "---\n", "~~~~\n", "\t tab\tx\n", "a" * 50,
]  # fmt: skip


@given(
    cut(st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join)),
    st.sampled_from([7, 20, 80]),
    st.sampled_from([2, 5, 24]),
)
def test_shown_answer_does_not_depend_on_its_pieces(
    pieces: list[str], columns: int, rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = shown(["".join(pieces)], patch, columns, rows)
        assert shown(pieces, patch, columns, rows) == whole


def test_blocks_are_separated_by_a_blank_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\nOne **two**\nthree\n\n\n- a\n- b\n\nFour"
    assert shown(text, monkeypatch) == ["One two three", "", " • a", " • b", "", "Four"]


def test_answer_without_text_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(["\n", " \n"], monkeypatch) == []


def test_open_block_that_is_too_tall_shows_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "4")
    display = Display(20, 4)
    printer = MarkdownPrinter(display)
    printer.write("".join(f"- {number}\n" for number in range(9)))
    assert display.lines == [" • 6", " • 7", " • 8"]
    printer.end_line()
    assert display.lines == [*(f" • {number}" for number in range(9)), ""]


def test_characters_that_are_wider_than_measured_shift_no_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    display = Display(10, 24, wide="é")
    printer = MarkdownPrinter(display)
    for piece in ("One\n\n", *"éééééé", *"éé ", "two"):
        printer.write(piece)
    printer.end_line()
    assert display.lines == ["One", "", "ééééé", "ééé", "two", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One <b>two</b>", "One <b>two</b>"),
        ("One\n\n<div>two</div>", "One\n\n<div>two</div>"),
        ("![a](http://b)", "!a (http://b)"),
        ("[a]: http://b", "[a]: http://b"),
        ("<http://b>", "<http://b>"),
        (">" * 70 + " a", ">" * 70 + " a"),
    ],
)
def test_no_text_is_left_out(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown([text], monkeypatch) == expected.split("\n")


def test_entities_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for code in (*range(0x20), *range(0x7F, 0xA0)):
        shown([f"a&#{code};b [c](d&#{code};) `e&#{code};`"], monkeypatch)  # Display checks them
