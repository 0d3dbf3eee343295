"""Pipes that the type checkers must accept, and pipes that they must reject.

Checked, never run: a line that must not pass has a `type: ignore`, and the checkers are
set to complain about one that is not needed.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator
from typing import assert_never

import msgspec
import reactivex
from reactivex import operators as ops

import rxmistral
from rxmistral import (
    AnswerEnded,
    DeltaMessage,
    Mistral,
    Part,
    References,
    SharedStream,
    Stream,
    SystemMessage,
    TextChunk,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
    UserMessage,
    answer_each,
    completions,
    deltas,
    map_async,
    parsed,
    partials,
    shared,
    text,
    tool,
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


class Refusal(msgspec.Struct, tag=True):
    reason: str


@tool
def double(number: int) -> int:
    return 2 * number


@tool(name="later", strict=True)
async def double_later(number: int) -> int:
    return 2 * number


doubled: int = double(2)
doubled_by_the_model: int = double.call_with('{"number": 2}')
Mistral("key").chat.stream(model="m", messages=history, tools=[double, double_later, len])
Mistral("key").chat.stream(model="m", messages=history, response_format=Recipe | Refusal)
Mistral("key").chat.stream(model="m", messages=history, response_format=list[Recipe])
double("two")  # type: ignore[arg-type]
double.call_with(2)  # type: ignore[arg-type]
tool(3)  # type: ignore[call-overload]
Mistral("key").chat.stream(model="m", messages=history, tools=[3])  # type: ignore[list-item]
all_recipes: Stream[list[Recipe]] = stream.pipe(text(), parsed(list[Recipe]))
recipes: Stream[Recipe] = stream.pipe(text(), partials(Recipe))
reasons = [event.data.choices[0].finish_reason for event in stream]
many: SharedStream[str] = tokens.shared(linger=1)
viewed: Stream[str] = stream.pipe(text(), shared())
of_any: SharedStream[int] = reactivex.of(1, 2).pipe(shared())
for merged in many.view("merge"):
    merged.upper()
for entry in stream.shared().entries(after=3):
    print(entry.id, entry.item.data.id)


def shown(part: Part) -> str:
    match part:
        case TextDelta(text=piece) | ThinkingDelta(text=piece):
            return piece
        case ToolCallStarted(name=name, index=index):
            return name + str(index + 1)
        case ToolCallDelta(arguments=arguments):
            return arguments
        case ToolCallReady(call=call):
            return str(call.function.arguments_as(dict[str, int]))
        case References(ids=ids):
            return str([*ids])
        case UsageReported(usage=usage):
            return str(usage.total_tokens)
        case AnswerEnded(status=status, error=error):
            return status if error is None else error
        case _:
            assert_never(part)


pieces: Stream[Part] = stream.pipe(rxmistral.parts())
lines_shown: Stream[str] = pieces.map(shown)
stream.pipe(text(), rxmistral.parts())  # type: ignore[misc]


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
    print(await double_later(2))
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
