"""Measures what every operator costs per item, in an Rx chain and in a plain loop.

    python tests/benchmarks/operators.py [--json]

A chain is `from_iterable(items).pipe(operator).subscribe(consume)`, on one thread. The loop next
to it does what a program without streams would do, as the table describes. It is there for scale:
most loops need the whole answer before they begin. The best of several runs counts. Without the
extra `rxmistral[sentences]`, its operator is left out.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import reactivex

from rxmistral import CompletionChunk, CompletionEvent, operators
from rxmistral.text.sentences.segmenters import default_segmenter
from rxmistral.wire import ServerSentEvent

RUNS = 7
COUNT = 2500  # items of a run

Consume = Callable[[Any], object]

# --- the input -------------------------------------------------------------------

PROSE = "The train was late. We waited in the hall, and it rained; Mr. Fox had left. "
MARKDOWN = (
    "Here is **one** way:\n\n- first, `a` and `b`\n- then the rest\n\n"
    "```python\ndef add(a, b):\n    return a + b\n```\n\nCall 555-1234 if it fails.\n\n"
)


class Recipe(msgspec.Struct):
    name: str
    minutes: int
    steps: list[str]


class Recipes(msgspec.Struct):
    recipes: list[Recipe]


RECIPE = '{"name": "Crêpes", "minutes": 20, "steps": ["Whisk the eggs.", "Wait.", "Fry them."]}'


def pieces(text: str, size: int = 4, count: int = COUNT) -> list[str]:
    text *= size * count // len(text) + 1
    return [text[at : at + size] for at in range(0, size * count, size)]


def recipes(characters: int) -> str:
    number = (characters - 20) // (len(RECIPE) + 2)
    whole = '{"recipes": [' + ", ".join([RECIPE] * number) + "]}"
    return whole + " " * (characters - len(whole))


def events(deltas: list[dict[str, Any]]) -> list[ServerSentEvent]:
    """Returns events as the service sends them: a role, these deltas, the end with the usage."""
    last = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": COUNT, "total_tokens": 20 + COUNT}
    deltas = [{"role": "assistant", "content": ""}, *deltas]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks = [{"choices": [choice], "p": "abcdefghijkl"[: 1 + n % 12]} for n, choice in enumerate(choices)]  # fmt: skip
    head = {"id": "d1d2", "object": "chat.completion.chunk", "created": 1, "model": "mistral-small"}
    bodies = [head | chunk for chunk in [*chunks, {"choices": [last], "usage": usage}]]
    return [ServerSentEvent(data=json.dumps(body)) for body in bodies]


def decoded(deltas: list[dict[str, Any]]) -> list[CompletionEvent]:
    return list(reactivex.from_iterable(events(deltas)).pipe(operators.completions()))


def fragment(number: int) -> dict[str, Any]:
    """Returns a delta with a fragment of a tool call; a call consists of a hundred."""
    index, at = divmod(number, 100)
    function = {
        "name": "" if at else "look_up",
        "arguments": {0: '{"q": "', 99: '"}'}.get(at, "abcd"),
    }
    return {"tool_calls": [{"index": index, "id": f"call{index}", "function": function}]}


TEXTS = [{"content": piece} for piece in pieces(PROSE)]
THOUGHTS = [
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]}
    for piece in pieces(PROSE)
]
CALLS = [fragment(number) for number in range(COUNT)]
COMPLETIONS = decoded(TEXTS)

# --- the loops; the table shows their docstrings ---------------------------------


def consume_each(items: list[Any], consume: Consume) -> None:
    """consumes each item"""
    for item in items:
        consume(item)


def decode_each(items: list[ServerSentEvent], consume: Consume) -> None:
    """decodes each with msgspec"""
    decode = msgspec.json.Decoder(CompletionChunk).decode
    for item in items:
        consume(decode(item.data))


def consume_deltas(items: list[CompletionEvent], consume: Consume) -> None:
    """consumes the delta of each choice"""
    for item in items:
        for choice in item.data.choices:
            consume(choice.delta)


def consume_contents(items: list[CompletionEvent], consume: Consume) -> None:
    """consumes the content of each choice"""
    for item in items:
        for choice in item.data.choices:
            if choice.delta.content:
                consume(choice.delta.content)


def join_arguments(items: list[CompletionEvent], consume: Consume) -> None:
    """joins the arguments of each index"""
    calls: dict[int, list[Any]] = {}
    for item in items:
        for call in item.data.choices[0].delta.tool_calls or ():
            calls.setdefault(call.index or 0, []).append(call.function.arguments)
    for call in calls.values():
        consume("".join(call))


def consume_usages(items: list[CompletionEvent], consume: Consume) -> None:
    """consumes the usage that is not None"""
    for item in items:
        if item.data.usage is not None:
            consume(item.data.usage)


def consume_reasons(items: list[CompletionEvent], consume: Consume) -> None:
    """consumes the finish_reason that is not None"""
    for item in items:
        for choice in item.data.choices:
            if choice.finish_reason is not None:
                consume(choice.finish_reason)


def join_contents(items: list[CompletionEvent], consume: Consume) -> None:
    """appends each content, joins them at the end"""
    contents: list[Any] = []
    consume_contents(items, contents.append)
    consume("".join(contents))


def join(items: list[str], consume: Consume) -> None:
    """appends each, joins them at the end"""
    parts: list[str] = []
    for item in items:
        parts.append(item)  # noqa: PERF402  # one by one
    consume("".join(parts))


def on_whole(description: str, cut: Callable[[str], Any]) -> Callable[[list[str], Consume], None]:
    def loop(items: list[str], consume: Consume) -> None:
        join(items, lambda whole: consume_each(cut(whole), consume))

    loop.__doc__ = f"joins all, then {description}"
    return loop


def sentences_of(whole: str) -> list[str]:
    ends = [0, *default_segmenter("en").boundaries(whole), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(ends)]


DECODE = on_whole("decodes it once", lambda whole: [msgspec.json.decode(whole, type=Recipes)])
FENCE = r"(?ms)^```(\w*)\n(.*?)^```$"

# --- the table -------------------------------------------------------------------


class Row(NamedTuple):
    make: Callable[[], Any]
    items: list[Any]
    loop: Callable[[list[Any], Consume], None]


def rows() -> dict[str, Row]:
    on, markdown = operators, pieces(MARKDOWN)
    tagged = ["<think>", *pieces(PROSE)[: COUNT // 2], "</think>", *pieces(PROSE)[COUNT // 2 :]]
    return {
        "(none)": Row(lambda: lambda source: source, COMPLETIONS, consume_each),
        "completions": Row(on.completions, events(TEXTS), decode_each),
        "until_finished": Row(on.until_finished, COMPLETIONS, consume_each),
        "deltas": Row(on.deltas, COMPLETIONS, consume_deltas),
        "text": Row(on.text, COMPLETIONS, consume_contents),
        "thinking": Row(on.thinking, decoded(THOUGHTS), consume_contents),
        "tool_calls": Row(on.tool_calls, decoded(CALLS), join_arguments),
        "usage": Row(on.usage, COMPLETIONS, consume_usages),
        "finish_reason": Row(on.finish_reason, COMPLETIONS, consume_reasons),
        "snapshots": Row(on.snapshots, COMPLETIONS, join_contents),
        "to_response": Row(on.to_response, COMPLETIONS, join_contents),
        "on_outcome": Row(lambda: on.on_outcome(lambda _: None), COMPLETIONS, join_contents),
        "sentences": Row(on.sentences, pieces(PROSE), on_whole("segments it", sentences_of)),
        "sentences(max_wait)": Row(lambda: on.sentences(max_wait=300), pieces(PROSE), on_whole("segments it", sentences_of)),
        "words": Row(on.words, pieces(PROSE), on_whole("re.findall", re.compile(r"\S+\s*").findall)),
        "text_lines": Row(on.text_lines, markdown, on_whole("splitlines", lambda whole: whole.splitlines(keepends=True))),
        "paragraphs": Row(on.paragraphs, markdown, on_whole("re.split", re.compile(r"(?<=\n\n)").split)),
        "code_blocks": Row(on.code_blocks, markdown, on_whole("re.findall", re.compile(FENCE).findall)),
        "think_tags": Row(on.think_tags, tagged, on_whole("re.split", re.compile("</?think>").split)),
        "guarded": Row(lambda: on.guarded(r"\d{3}-\d{4}", max_length=8), markdown, on_whole("re.sub", lambda whole: [re.sub(r"\d{3}-\d{4}", "...", whole)])),
        "parsed": Row(lambda: on.parsed(Recipes), pieces(recipes(4 * COUNT)), DECODE),
        "partials": Row(lambda: on.partials(Recipes), pieces(recipes(4 * COUNT)), DECODE),
        "items": Row(lambda: on.items(Recipe), pieces(recipes(4 * COUNT)), DECODE),
        "paced": Row(lambda: on.paced(300), pieces(PROSE), join),
        "coalesced": Row(lambda: on.coalesced(300), pieces(PROSE), join),
    }  # fmt: skip


def best(work: Callable[[], object]) -> float:
    """Returns the seconds of the fastest run."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def in_a_chain(row: Row) -> float:
    chain = reactivex.from_iterable(row.items).pipe(row.make())
    return best(lambda: chain.subscribe(lambda _: None))


def costs(row: Row) -> dict[str, Any]:
    to_microseconds = 1e6 / len(row.items)
    return {
        "chain_us": in_a_chain(row) * to_microseconds,
        "loop_us": best(lambda: row.loop(row.items, lambda _: None)) * to_microseconds,
        "loop": row.loop.__doc__,
    }


def growth(row: Row) -> dict[str, float]:
    """Measures milliseconds for a whole answer, and for one that is four times as long."""
    return {
        f"{deltas * 40 // 1000}_kB_ms": 1e3
        * in_a_chain(row._replace(items=pieces(recipes(deltas * 40), 40, deltas)))
        for deltas in (625, 2500)
    }


def measure() -> dict[str, dict[str, Any]]:
    measured = {}
    for name, row in rows().items():
        try:
            measured[name] = costs(row)
        except ModuleNotFoundError:
            continue
        if row.loop is DECODE:
            measured[name] |= growth(row)
    return measured


def not_measured(measured: dict[str, Any]) -> list[str]:
    every = (name for name in operators.__all__ if inspect.isfunction(getattr(operators, name)))
    return sorted(set(every) - set(measured))


def show(measured: dict[str, dict[str, Any]]) -> None:
    print(f"{'microseconds an item':20} {'chain':>7} {'loop':>7}  the loop")
    for name, each in measured.items():
        print(f"{name:20} {each['chain_us']:7.2f} {each['loop_us']:7.2f}  {each['loop']}")
    print(f"\n{'milliseconds':20} {'25 kB':>7} {'100 kB':>7}  in 625 and 2500 deltas")
    for name, each in measured.items():
        if "25_kB_ms" in each:
            print(f"{name:20} {each['25_kB_ms']:7.2f} {each['100_kB_ms']:7.2f}")
    print("\nnot measured:", ", ".join(not_measured(measured)) or "none")


if __name__ == "__main__":
    if "--json" in sys.argv:
        print(json.dumps(measure(), indent=2))
    else:
        show(measure())
