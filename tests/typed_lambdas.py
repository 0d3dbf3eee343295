"""Lambdas as async functions that the type checkers must accept, and some that they must reject.

Not in `typed_pipes.py`: mypy 2.4 first reads a lambda for an overload without any types, and
`disallow-any-expr` reports that.
"""
# pyright: strict
# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

import reactivex

from rxmistral import Stream, TextStream, answer_each

tokens = TextStream.of(reactivex.of("Hel", "lo"))


async def length_of(token: str) -> int:
    return len(token)


async def text_later(_: str) -> TextStream:
    return tokens


assert_type(tokens.map_async(lambda _: tokens), Stream[str])
assert_type(tokens.map_async(lambda token: text_later(token.upper())), Stream[str])
assert_type(tokens.map_async(lambda token: length_of(token.upper())), Stream[int])
assert_type(tokens.pipe(answer_each(lambda _: tokens)), Stream[str])
assert_type(
    tokens.pipe(answer_each(lambda _: tokens, "queue", lambda prompt, error: None)), Stream[str]
)
assert_type(tokens.pipe(answer_each(lambda _: 3)), Stream[int])

tokens.map_async(lambda token: length_of(token.data))  # type: ignore[attr-defined, arg-type, return-value]
tokens.map_async(lambda token: len(token))  # type: ignore[arg-type, return-value]
tokens.pipe(answer_each(3))  # type: ignore[call-overload]
