"""Pipes that the type checkers must accept, and pipes that they must reject.

Checked, never run: a line that must not pass has a `type: ignore`, and the checkers are
set to complain about one that is not needed.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator

import msgspec
import reactivex
from reactivex import operators as ops

from rxmistral import (
    DeltaMessage,
    Mistral,
    SharedStream,
    Stream,
    SystemMessage,
    TextChunk,
    UserMessage,
    answer_each,
    completions,
    deltas,
    map_async,
    partials,
    shared,
    text,
    until_finished,
)
from rxmistral.wire import events, lines

stream = Mistral("key").chat.stream(model="m", messages=[{"role": "user", "content": "Hi"}])

tokens: Stream[str] = stream.pipe(until_finished(), text())
parts: Stream[DeltaMessage] = stream.pipe(deltas())
lengths: Stream[int] = tokens.pipe(ops.map(len))
for token in tokens:
    token.upper()
for length in lengths:
    length.bit_length()
last: str = tokens.run()
for shout in tokens.map(str.upper).filter(str.isalpha).take(3):
    shout.lower()
history = [SystemMessage(content="Be brief."), UserMessage(content="Hi")]
parts_of_one = [TextChunk(text="Hi")]
again = Mistral("key").chat.stream(
    model="m", messages=[*history, UserMessage(content=parts_of_one)]
)
Mistral("key").chat.stream(model="m", messages=history).close()


class Recipe(msgspec.Struct):
    title: str


recipes: Stream[Recipe] = stream.pipe(text(), partials(Recipe))
reasons = [event.data.choices[0].finish_reason for event in stream]
many: SharedStream[str] = tokens.shared(linger=1)
viewed: Stream[str] = stream.pipe(text(), shared())
of_any: SharedStream[int] = reactivex.of(1, 2).pipe(shared())
for merged in many.view("merge"):
    merged.upper()
for entry in stream.shared().entries(after=3):
    print(entry.id, entry.item.data.id)


async def length_of(token: str) -> int:
    return len(token)


async def letters_of(token: str) -> AsyncIterator[str]:
    for letter in token:
        yield letter


awaited: Stream[int] = tokens.map_async(length_of, concurrency=3, ordered=False)
piped_calls: Stream[int] = stream.pipe(text(), map_async(length_of))
letters: Stream[str] = tokens.map_async(letters_of)
observed: Stream[str] = tokens.map_async(lambda _: tokens)
by_lambda: Stream[int] = tokens.map_async(lambda token: length_of(token.upper()))
answered: Stream[int] = tokens.pipe(answer_each(length_of, "queue"))
streamed: Stream[str] = tokens.pipe(answer_each(letters_of, on_error=lambda *_: None))
mapped: Stream[str] = tokens.pipe(answer_each(lambda _: tokens))


async def pull() -> str:
    async for token in tokens:
        token.upper()
    async with Mistral("key").chat.stream_async(model="m", messages=[]) as opened:
        async for event in opened:
            print(event.data.choices[0].delta.role)
    return await tokens


many.view("drop")  # type: ignore[arg-type]
stream.pipe(partials(Recipe))  # type: ignore[arg-type]
stream.pipe(text(), deltas())  # type: ignore[misc]
stream.map_async(length_of)  # type: ignore[arg-type]
stream.pipe(deltas(), text())  # type: ignore[misc]
stream.pipe(completions())  # type: ignore[arg-type]
tokens.pipe(lines())  # type: ignore[arg-type]
tokens.pipe(until_finished())  # type: ignore[arg-type]
stream.pipe(events(), lines())  # type: ignore[misc, arg-type]
Mistral("key").chat.stream(model="m", messages=[], temperature="hot")  # type: ignore[arg-type]
Mistral("key").chat.stream(model="m", messages=[], seed=1)  # type: ignore[call-arg]

demo: Mistral = Mistral.demo(timeout_ms=5000, limit=None)
Mistral.demo(server="eu")  # type: ignore[call-arg]
Mistral(base_url="http://localhost")  # type: ignore[call-arg]
demo.chat.stream(model="m", messages=[], seed=1)  # type: ignore[call-arg]
# Hints must not make every name an attribute.
demo.chat.complete  # type: ignore[attr-defined]  # noqa: B018
demo.embeddings  # type: ignore[attr-defined]  # noqa: B018
