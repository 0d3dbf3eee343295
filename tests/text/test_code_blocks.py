"""Fenced code blocks after CommonMark 0.31, section 4.5."""

from __future__ import annotations

import pickle

import msgspec
import pytest
from cuts import cut, every_way, through
from hypothesis import given
from hypothesis import strategies as st

from rxmistral.text.code_blocks import CodeBlock, CodeBlockParser

TEXTS = st.lists(
    st.sampled_from(["```", "~~~", "````", "`", "~", " ", "   ", "    ", "\t", "py", "a b", "\n", "\r\n", "\r"]),
    max_size=25,
).map("".join)  # fmt: skip


def blocks(text: str) -> list[tuple[str | None, str, bool]]:
    return [
        (block.language, block.content, block.closed)
        for block in through(CodeBlockParser(), [text])
    ]


# The blocks in the examples of the standard, without their containers.
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```\n<\n >\n```\n", [(None, "<\n >\n", True)]),
        ("~~~\n<\n >\n~~~\n", [(None, "<\n >\n", True)]),
        ("``\nfoo\n``\n", []),
        ("```\naaa\n~~~\n```\n", [(None, "aaa\n~~~\n", True)]),
        ("~~~\naaa\n```\n~~~\n", [(None, "aaa\n```\n", True)]),
        ("````\naaa\n```\n``````\n", [(None, "aaa\n```\n", True)]),
        ("~~~~\naaa\n~~~\n~~~~\n", [(None, "aaa\n~~~\n", True)]),
        ("```\n", [(None, "", False)]),
        ("`````\n\n```\naaa\n", [(None, "\n```\naaa\n", False)]),
        ("```\n\n  \n```\n", [(None, "\n  \n", True)]),
        ("```\n```\n", [(None, "", True)]),
        (" ```\n aaa\naaa\n```\n", [(None, "aaa\naaa\n", True)]),
        ("  ```\naaa\n  aaa\naaa\n  ```\n", [(None, "aaa\naaa\naaa\n", True)]),
        ("   ```\n   aaa\n    aaa\n  aaa\n   ```\n", [(None, "aaa\n aaa\naaa\n", True)]),
        ("    ```\n    aaa\n    ```\n", []),
        ("```\naaa\n  ```\n", [(None, "aaa\n", True)]),
        ("   ```\naaa\n  ```\n", [(None, "aaa\n", True)]),
        ("```\naaa\n    ```\n", [(None, "aaa\n    ```\n", False)]),
        ("``` ```\naaa\n", []),
        ("~~~~~~\naaa\n~~~ ~~\n", [(None, "aaa\n~~~ ~~\n", False)]),
        ("foo\n```\nbar\n```\nbaz\n", [(None, "bar\n", True)]),
        ("foo\n---\n~~~\nbar\n~~~\n# baz\n", [(None, "bar\n", True)]),
        ("```ruby\ndef foo(x)\n  return 3\nend\n```\n", [("ruby", "def foo(x)\n  return 3\nend\n", True)]),
        ("~~~~    ruby startline=3 $%@#$\ndef foo(x)\n~~~~~~~\n", [("ruby", "def foo(x)\n", True)]),
        ("````;\n````\n", [(";", "", True)]),
        ("``` aa ```\nfoo\n", []),
        ("~~~ aa ``` ~~~\nfoo\n~~~\n", [("aa", "foo\n", True)]),
        ("```\n``` aaa\n```\n", [(None, "``` aaa\n", True)]),
    ],
)  # fmt: skip
def test_examples_of_the_standard(text: str, found: list[tuple[str | None, str, bool]]) -> None:
    assert blocks(text) == found
    for line_end in ("\r\n", "\r"):
        other = text.replace("\n", line_end)
        assert blocks(other) == [(a, b.replace("\n", line_end), c) for a, b, c in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```py\n1\n```", [("py", "1\n", True)]),
        ("```py\n1\n``", [("py", "1\n``", False)]),
        ("```py\n1", [("py", "1", False)]),
        ("```py", [("py", "", False)]),
        ("```\n1\n```\t \n2", [(None, "1\n", True)]),
        ("```\n1\n``` `\n", [(None, "1\n``` `\n", False)]),
        ("```\n1\n```2\n", [(None, "1\n```2\n", False)]),
        ("```a\n1\n```\n~~~b\n2\n~~~", [("a", "1\n", True), ("b", "2\n", True)]),
        ("\t```\n1\n", []),
        ("", []),
    ],
)
def test_text_may_end_anywhere(text: str, found: list[tuple[str | None, str, bool]]) -> None:
    assert blocks(text) == found


def test_block_has_info_and_index() -> None:
    text = "``` py  title=a.py \n1\n```\n```\n```"
    assert through(CodeBlockParser(), [text]) == [
        CodeBlock("py", "1\n", closed=True, info="py  title=a.py", index=0),
        CodeBlock(None, "", closed=True, info="", index=1),
    ]


def test_block_is_frozen_and_pickles() -> None:
    block = CodeBlock("py", "1\n")
    assert pickle.loads(pickle.dumps(block)) == block
    assert hash(block) == hash(CodeBlock("py", "1\n"))
    with pytest.raises(AttributeError):
        block.content = ""  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(block), type=CodeBlock) == block


@given(cut(TEXTS))
def test_blocks_do_not_depend_on_cuts(pieces: list[str]) -> None:
    assert through(CodeBlockParser(), pieces) == through(CodeBlockParser(), ["".join(pieces)])


@given(cut(TEXTS))
def test_streamed_parts_add_up_to_the_blocks(pieces: list[str]) -> None:
    parts: list[CodeBlock] = through(CodeBlockParser(streaming=True), pieces)
    whole = through(CodeBlockParser(), ["".join(pieces)])
    assert [joined(parts, block.index) for block in whole] == whole
    for index in range(len(whole)):
        first, *others = (part for part in parts if part.index == index)
        assert first.content == ""
        assert not any(part.closed for part in (first, *others)[:-1])
        assert all(part.content for part in others if not part.closed)


def joined(parts: list[CodeBlock], index: int) -> CodeBlock:
    own = [part for part in parts if part.index == index]
    return msgspec.structs.replace(own[-1], content="".join(part.content for part in own))


@pytest.mark.parametrize(
    ("pieces", "contents"),
    [
        (["```py\n", "a", "b\n", "c", "\n```", "\n"], [[""], ["a"], ["b\n"], ["c"], ["\n"], [""]]),
        (["```\n", " ", " ", " ", " "], [[""], [], [], [], ["    "]]),
        (["```\n", "``", "x", "`"], [[""], [], ["``x"], ["`"]]),
        (["```\n", "```", "`", " ", "\t", "."], [[""], [], [], [], [], ["```` \t."]]),
        (["  ```\n", " ", "  a", "  b"], [[""], [], [" a"], ["  b"]]),
        (["```\na", "\r", "\n", "b"], [["", "a"], [], ["\r\n"], ["b"]]),
    ],
)
def test_streamed_block_holds_only_a_possible_fence(
    pieces: list[str], contents: list[list[str]]
) -> None:
    reader = CodeBlockParser(streaming=True)
    assert [[part.content for part in reader.feed(piece)] for piece in pieces] == contents


def test_block_is_emitted_when_closing_line_ends() -> None:
    reader = CodeBlockParser()
    assert reader.feed("```\n1\n```") == []
    assert reader.feed("\n") == [CodeBlock(None, "1\n")]


def test_blocks_are_equal_for_every_cut_in_two() -> None:
    text = "a\r\n  ~~~~ py x\r\n  1\r\n ~~~\r\n   2\r\n ~~~~~ \r\nb"
    for pieces in every_way(text):
        assert through(CodeBlockParser(), pieces) == [
            CodeBlock("py", "1\r\n~~~\r\n 2\r\n", closed=True, info="py x")
        ]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("1. Do:\n\n    ```py\n    a\n    ```\n", "a\n"),
        ("- x\n  - y\n\n    ```py\n    a\n      b\n    ```\n", "a\n  b\n"),
        ("10) x\n    ```py\n    a\n    ```\n", "a\n"),
    ],
)
def test_fence_may_be_indented_like_its_list_item(text: str, content: str) -> None:
    assert blocks(text) == [("py", content, True)]


def test_fence_after_a_list_is_outside_of_it() -> None:
    assert blocks("- x\n\nDone.\n\n    ```\n    a\n    ```\n") == []
