"""Partial matches of a pattern, and the patterns that cannot have them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxmistral.text.partial_match import partial_pattern


@pytest.mark.parametrize(
    ("pattern", "text", "kind"),
    [
        ("abc", "ab", "begun"),
        ("abc", "abc", "certain"),
        ("abc", "abd", "none"),
        ("abc", "", "begun"),
        ("a+", "aa", "begun"),
        ("a+", "aab", "certain"),
        ("a+?", "a", "certain"),
        ("a{2}", "aa", "certain"),
        ("a|ab", "a", "certain"),
        ("ab|a", "a", "begun"),
        (r"ab\b", "ab", "begun"),
        (r"ab\b", "ab.", "certain"),
        (r"ab\b", "abc", "none"),
        ("a(?=bc)", "ab", "begun"),
        ("a(?!bc)", "ab", "begun"),
        ("a(?!bc)", "abd", "certain"),
        ("a(?!bc)", "abc", "none"),
        ("a$", "a\n", "begun"),
        ("a$", "a\nb", "none"),
        (r"\d+(?<=5)x", "12", "begun"),
        (r"\d+(?<=5)x", "12x", "none"),
        (r"\d+(?<=5)x", "15x", "certain"),
    ],
)
def test_text_has_a_match_or_a_beginning_or_none(pattern: str, text: str, kind: str) -> None:
    found = partial_pattern(re.compile(pattern)).pattern.match(text)
    assert kind == ("none" if found is None else "certain" if found.lastindex is None else "begun")


@pytest.mark.parametrize(
    ("pattern", "shortest", "behind", "ahead"),
    [
        ("abc", 3, 1, 0),
        ("a|bc|", 0, 1, 0),
        (r"\d{2,4}x*", 2, 1, 0),
        (r"(?:\d{2}){3}", 6, 1, 0),
        (r"\bab\b", 2, 1, 1),
        (r"\ba", 1, 1, 0),
        ("a$", 1, 1, 2),
        ("a(?=bc?)", 1, 1, 2),
        ("a(?=bc)b", 2, 1, 1),
        ("(?<=abc)d", 1, 4, 0),
        (r"a(?=b$)", 1, 1, 3),
    ],
)
def test_partial_pattern_knows_length_and_context(
    pattern: str, shortest: int, behind: int, ahead: int
) -> None:
    assert partial_pattern(re.compile(pattern))[1:] == (shortest, behind, ahead)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(a)\1", r"a reference to a group in it, '\\\\1'"),
        ("(?P<n>a)(?P=n)", r"a reference to a group in it, '\(\?P='"),
        ("(a)?(?(1)b|c)", "a condition on a group"),
        ("(?>a|ab)c", "an atomic group"),
        ("a++", r"a possessive repeat in it, '\+\+'"),
        ("a{1,2}+b", "a possessive repeat"),
        ("a(?=b*c)", "a look-ahead without a limit"),
        ("a(?!b+)", "a look-ahead without a limit"),
        (r"a(?!b\b)", r"an assertion in a look-around in it, '\\\\b'"),
        ("(?<!$)a", "an assertion in a look-around"),
        ("a(?=b(?!c))", "a look-around in a look-around"),
        ("(?x: a )", "a change of the flag x"),
    ],
)
def test_unsupported_construct_is_refused_by_name(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"the pattern has {message}"):
        partial_pattern(re.compile(pattern))


# Nested expressions of every kind that the parser accepts.
ATOMS = st.sampled_from(["a", "b", "1", r"\d", r"\w", ".", "[ab]", "[^a]", "[]a]", r"\x61"])
LOOKS = st.sampled_from(
    [r"\b", r"\B", "^", "$", r"\A", r"\Z", "(?=a)", "(?=b$)", "(?!a)", "(?!ab|1)", "(?<=a)", "(?<!ab)"]
)  # fmt: skip
REPEATS = st.sampled_from(
    ["", "", "*", "+", "?", "{2}", "{1,2}", "{,2}", "*?", "+?", "??", "{1,2}?"]
)


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.one_of(st.builds("{}{}".format, inner, REPEATS), LOOKS)
    sequences = st.lists(items, min_size=1, max_size=4).map("".join)
    groups = st.sampled_from(["(?:{})", "({})", "(?i:{})", "(?s:{})"])
    return st.builds(lambda group, a, b: group.format(f"{a}|{b}"), groups, sequences, sequences)


@given(st.recursive(ATOMS, nested, max_leaves=8), st.text("ab1 \n", max_size=8), st.text("ab1 \n", max_size=4))  # fmt: skip
def test_more_text_confirms_a_decision(pattern: str, text: str, more: str) -> None:
    """A certain match stays the match; if there is none, there never will be."""
    compiled = re.compile(pattern)
    found = partial_pattern(compiled).pattern.match(text)
    whole = compiled.match(text + more)
    if found is None:
        assert whole is None
    elif found.lastindex is None:
        assert whole is not None
        assert whole.end() == found.end()


@given(st.recursive(ATOMS, nested, max_leaves=8), st.text("ab1 \n", max_size=8))
def test_no_match_is_shorter_than_shortest(pattern: str, text: str) -> None:
    compiled = re.compile(pattern)
    for match in compiled.finditer(text):
        assert len(match[0]) >= partial_pattern(compiled).shortest
