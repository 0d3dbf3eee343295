"""Pipes that the type checkers must accept, and pipes that they must reject.

Checked, never run: a line that must not pass has a `type: ignore`, and the checkers are
set to complain about one that is not needed.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

import msgspec
import reactivex
from reactivex import operators as ops
from reactivex.scheduler import VirtualTimeScheduler

import rxmistral
from rxmistral import (
    CompletionEvent,
    DeltaMessage,
    Mistral,
    SharedStream,
    Stream,
    SystemMessage,
    TextChunk,
    UserMessage,
    completions,
    deltas,
    partials,
    shared,
    text,
    until_finished,
)
from rxmistral.testing import ScriptedServer, answer, completion, finish, record, replay, wait
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

scripted: Stream[CompletionEvent] = answer("Hel", wait(2), "lo", finish())
one: CompletionEvent = completion("Hel")
played: ScriptedServer = replay("a.jsonl", speed=None, faults={3: "drop"})
in_virtual_time: Stream[bytes] = replay("a.jsonl", scheduler=VirtualTimeScheduler())
with record("a.jsonl", redact=bytes.lower):
    played.script(["Hel", finish()], lambda request: [request.path])
replay("a.jsonl", faults={3: "bang"})  # type: ignore[dict-item]
answer(5)  # type: ignore[arg-type]
rxmistral.nothing  # type: ignore[attr-defined]  # noqa: B018
rxmistral.testing.nothing  # type: ignore[attr-defined]  # noqa: B018
rxmistral.models.UserMessage(content="a name that is loaded on use")
