"""Pipes that the type checkers must accept, and pipes that they must reject.

Checked, never run: a line that must not pass has a `type: ignore`, and the checkers are
set to complain about one that is not needed, and about each expression whose type is not known.
"""
# mypy: disallow-any-expr
# pyright: strict
# pyright: reportUnnecessaryTypeIgnoreComment=true

from asyncio import Future
from collections.abc import AsyncIterator, Callable
from typing import TypedDict, assert_never, assert_type

import msgspec
import reactivex
from reactivex import GroupedObservable, Notification, Observable
from reactivex import operators as ops
from reactivex.scheduler import CurrentThreadScheduler, VirtualTimeScheduler

import rxmistral
from rxmistral import (
    Answer,
    AnswerEnded,
    AnswerPart,
    ChatCompletionResponse,
    CodeBlock,
    CompletionEvent,
    Conversation,
    DeltaMessage,
    EventStream,
    Message,
    Mistral,
    Outcome,
    Part,
    References,
    RoundEnded,
    SharedStream,
    Stream,
    SystemMessage,
    TextChunk,
    TextDelta,
    TextStream,
    ThinkChunk,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolFailed,
    ToolMessage,
    ToolProgress,
    ToolReturned,
    UsageInfo,
    UsageReported,
    UserMessage,
    answer_each,
    coalesced,
    completions,
    deltas,
    fallback,
    guarded,
    items,
    map_async,
    on_outcome,
    paced,
    paragraphs,
    parsed,
    partials,
    sentences,
    shared,
    text,
    text_lines,
    thinking,
    tool,
    until_finished,
    words,
)
from rxmistral.completions.completion_stream import CompletionStream
from rxmistral.rx.stream import ConnectableStream
from rxmistral.telemetry import OpenTelemetry
from rxmistral.testing import ScriptedServer, answer, completion, finish, record, replay, wait
from rxmistral.wire import events, lines

stream = Mistral("key").chat.stream(model="m", messages=[UserMessage(content="Hi")])

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
        case ToolReturned(content=result) | ToolFailed(message=result):
            return result
        case ToolProgress(call=call):
            return call.id or ""
        case RoundEnded(number=number):
            return str(number + 1)
        case _:
            assert_never(part)


def shown_of_answer(part: AnswerPart) -> str:
    match part:
        case TextDelta() | ThinkingDelta() | ToolCallStarted() | ToolCallDelta() | ToolCallReady():
            return "output"
        case References() | UsageReported() | AnswerEnded():
            return "other"
        case _:
            assert_never(part)


async def approved(call: ToolCall) -> bool | str:
    return call.function.name != "delete" or "not allowed"


run = Mistral("key").chat.run(
    model="m", messages=history, tools=[double], max_rounds=3, approve=approved
)
run_parts: Stream[str] = run.map(shown)
run_sentences: Stream[str] = run.text().sentences()
after_run = Mistral("key").chat.stream(model="m", messages=run.messages)
Mistral("key").chat.run(model="m", messages=history, approve=3)  # type: ignore[arg-type]

conversation = Conversation(Mistral("key"), model="m", when_busy="queue", temperature=0.5)
spoken = conversation.ask("Hi")
assert_type(spoken, Answer)
assert_type(spoken.text().sentences(), TextStream)
assert_type(spoken.thinking(), TextStream)
assert_type(spoken.tool_calls(), Stream[ToolCall])
assert_type(spoken.usage(), Stream[UsageInfo])
assert_type(spoken.parts(), Answer)
assert_type(list(spoken.on_outcome(print).text()), list[str])
assert_type(conversation.ask([ToolMessage(content="Rome", tool_call_id="a")]), Answer)
assert_type(list(spoken), list[Part])
assert_type(conversation.messages, list[Message])
assert_type(conversation.fork(), Conversation)
assert_type(conversation.from_json(conversation.to_json(), Mistral("key"), model="m"), Conversation)
assert_type(conversation.speculate("Hi").commit("Hi!"), Answer)
assert_type(Stream.of(reactivex.of("Hi")).pipe(answer_each(conversation.ask)), Stream[Part])
spoken.delivered(3)
spoken.delivered(text="Hel")
conversation.ask(3)  # type: ignore[arg-type]
Conversation(Mistral("key"), model="m", when_busy="ignore")  # type: ignore[arg-type]
for answer_part in stream.parts():
    shown_of_answer(answer_part)


pieces: Stream[Part] = stream.pipe(rxmistral.parts())
lines_shown: Stream[str] = pieces.map(shown)
stream.pipe(text(), rxmistral.parts())  # type: ignore[misc]


async def length_of(token: str) -> int:
    return len(token)


async def letters_of(token: str) -> AsyncIterator[str]:
    for letter in token:
        yield letter


def report(prompt: str, error: Exception) -> None:
    print(prompt, error)


awaited: Stream[int] = tokens.map_async(length_of, concurrency=3, ordered=False)
piped_calls: Stream[int] = stream.pipe(text(), map_async(length_of))
letters: Stream[str] = tokens.map_async(letters_of)
answered: Stream[int] = tokens.pipe(answer_each(length_of, "queue"))
streamed: Stream[str] = tokens.pipe(answer_each(letters_of, on_error=report))


async def text_later(_: str) -> TextStream:
    return stream.text()


async def letters_later(token: str) -> AsyncIterator[str]:
    return letters_of(token)


def text_or_words(token: str) -> TextStream | str:
    return stream.text() if token else "Say something."


assert_type(tokens.map_async(text_later), Stream[str])
assert_type(tokens.map_async(letters_later), Stream[str])
assert_type(tokens.pipe(map_async(text_later)), Stream[str])
assert_type(tokens.pipe(map_async(letters_later)), Stream[str])
assert_type(tokens.pipe(answer_each(text_later)), Stream[str])
assert_type(tokens.pipe(answer_each(letters_later)), Stream[str])
assert_type(tokens.pipe(answer_each(len)), Stream[int])
assert_type(tokens.pipe(answer_each(text_or_words)), Stream[str])
tokens.map_async(len)  # type: ignore[arg-type]
tokens.map_async(text_or_words)  # type: ignore[arg-type]
tokens.pipe(map_async(len))  # type: ignore[arg-type]


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


# --- operators as methods ---


class City(TypedDict):
    name: str


def note(outcome: Outcome) -> None:
    print(outcome.status)


assert_type(stream.text(), TextStream)
assert_type(stream.text(choice=1), TextStream)
assert_type(stream.thinking(), TextStream)
assert_type(stream.deltas(), Stream[DeltaMessage])
assert_type(stream.tool_calls(), Stream[ToolCall])
assert_type(stream.usage(), Stream[UsageInfo])
assert_type(stream.finish_reason(), Stream[str])
assert_type(stream.snapshots(), Stream[ChatCompletionResponse])
assert_type(stream.to_response().run(), ChatCompletionResponse)
assert_type(stream.until_finished(), CompletionStream)
assert_type(stream.on_outcome(note).until_finished(0).text(), TextStream)
assert_type(fallback(stream, stream).text(), TextStream)
assert_type(fallback(stream, stream).text().outcome, Outcome | None)
opened_later = Mistral("key").chat.stream_async(model="m", messages=history)
assert_type(opened_later.text().words(), TextStream)

written = stream.text()
assert_type(written.sentences(), TextStream)
assert_type(written.sentences("de", max_wait=1.5, max_chars=100), TextStream)
assert_type(written.words().text_lines().paragraphs(), TextStream)
assert_type(written.paced(0.1, max_lag=1).coalesced(0.1), TextStream)
assert_type(written.guarded("secret", max_length=6, on_match="stop"), TextStream)
assert_type(written.code_blocks(streaming=True), Stream[CodeBlock])
assert_type(written.think_tags("<a>", begins_open=True), Stream[TextChunk | ThinkChunk])
assert_type(written.items(Recipe), Stream[Recipe])
assert_type(written.partials(Recipe, growing_items=True), Stream[Recipe])
assert_type(written.parsed(Recipe).run(), Recipe)
assert_type(written.parsed(Recipe | Refusal).run(), Recipe | Refusal)
assert_type(written.parsed(list[City]), Stream[list[City]])
assert_type(TextStream.of(reactivex.of("Hel", "lo")).words(), TextStream)
assert_type(written.map(lambda token: token.upper()), Stream[str])
assert_type(stream.map(lambda event: event.data.model), Stream[str | None])
assert_type(stream.filter(lambda event: event.data.usage is not None), Stream[CompletionEvent])

stream.sentences()  # type: ignore[attr-defined]
stream.pipe(until_finished()).words()  # type: ignore[attr-defined]
written.usage()  # type: ignore[attr-defined]
written.text()  # type: ignore[attr-defined]
written.code_blocks().words()  # type: ignore[attr-defined]
written.sentences(max_chars="long")  # type: ignore[arg-type]
written.words("en")  # type: ignore[call-arg]
written.paced()  # type: ignore[call-arg]
written.parsed(3)  # type: ignore[arg-type]
stream.text("first")  # type: ignore[arg-type]
stream.on_outcome(len)  # type: ignore[arg-type]
written.map(lambda token: token.data)  # type: ignore[attr-defined, misc]

# --- pipe ---
# (In a lambda that is passed to an operator in a pipe, only pyright knows the type of the argument.)

assert_type(stream.pipe(), EventStream)
assert_type(stream.pipe(text()), TextStream)
assert_type(stream.pipe(text()).sentences(), TextStream)
assert_type(stream.pipe(thinking()), TextStream)
assert_type(stream.pipe(text(), sentences()), TextStream)
assert_type(stream.pipe(text(), words(), text_lines(), paragraphs()), TextStream)
assert_type(stream.pipe(text(), guarded("a", max_length=1), paced(1), coalesced(1)), TextStream)
assert_type(stream.pipe(until_finished()), CompletionStream)
assert_type(stream.pipe(on_outcome(note), until_finished(), text()).words(), TextStream)
assert_type(stream.pipe(text(), items(Recipe)), Stream[Recipe])
assert_type(stream.pipe(text(), parsed(Recipe | Refusal)), Stream[Recipe | Refusal])
assert_type(stream.pipe(text(), ops.take(3)), Stream[str])
assert_type(reactivex.of(b"").pipe(lines(), events(), completions()).text(), TextStream)

to_future: Callable[[Observable[str]], Future[str]] = ops.to_future()
same: Callable[[Observable[str]], Observable[str]] = ops.as_observable()
assert_type(written.pipe(to_future), Future[str])
assert_type(written.pipe(same, to_future), Future[str])
assert_type(written.pipe(same, same, to_future), Future[str])
assert_type(written.pipe(same, same, same, to_future), Future[str])
assert_type(written.pipe(same, same, same, same, to_future), Future[str])
assert_type(written.pipe(same, same, same, same, same, to_future), Future[str])
assert_type(written.pipe(same, same, same, same, same, same, to_future), Future[str])
assert_type(written.pipe(ops.to_future()), Future[str])
assert_type(stream.pipe(text(), ops.to_future()), Future[str])
assert_type(stream.pipe(until_finished(), text(), sentences(), ops.to_future()), Future[str])
assert_type(stream.pipe(text(), words(), ops.take(3), ops.map(len), ops.to_future()), Future[int])

of_words: Callable[[Observable[str]], SharedStream[str]] = shared()
assert_type(stream.pipe(text(), words(), of_words), SharedStream[str])
stream.pipe(text(), shared()).stop()
stream.pipe(shared()).stop()

# --- the methods of reactivex ---

numbers = written.map(len)
nested = written.map(lambda token: reactivex.of(len(token)))


def is_long(token: str) -> bool:
    return len(token) > 1


def is_odd(_: str, index: int) -> bool:
    return index % 2 > 0


def joined(one: str, two: str) -> str:
    return one + two


def joined_times(one: str, two: str, times: int) -> str:
    return (one + two) * times


def added(total: int, token: str) -> int:
    return total + len(token)


def lengths_of(source: Observable[str]) -> Observable[int]:
    return source.pipe(ops.map(len))


def key_of(group: GroupedObservable[int, str]) -> Observable[int]:
    return reactivex.of(group.key)


def length_later(token: str) -> Observable[int]:
    return reactivex.of(len(token))


def two_later(token: str, index: int) -> Observable[int]:
    return reactivex.of(len(token), index)


assert_type(written.merge(numbers, numbers), Stream[str | int])
assert_type(written.concat(written), Stream[str])
assert_type(written + numbers, Stream[str | int])
assert_type(written[1:3], Stream[str])
assert_type(written.zip(numbers), Stream[tuple[str, int]])
assert_type(written.zip(numbers, numbers), Stream[tuple[str | int, ...]])
assert_type(written.zip_latest(numbers), Stream[tuple[str, int]])
assert_type(written.combine_latest(numbers), Stream[tuple[str, int]])
assert_type(written.with_latest_from(numbers), Stream[tuple[str, int]])
assert_type(written.fork_join(numbers), Stream[tuple[str, int]])
assert_type(written.zip_with_iterable([1, 2]), Stream[tuple[str, int]])
assert_type(numbers.join(written, lambda _: numbers, length_later), Stream[tuple[int, str]])
assert_type(
    numbers.group_join(written, lambda _: numbers, length_later),
    Stream[tuple[int, Observable[str]]],
)
assert_type(written.start_with("a", "b"), Stream[str])
assert_type(written.amb(written), Stream[str])
assert_type(nested.switch_latest(), Stream[int])
assert_type(nested.concat_all(), Stream[int])
assert_type(nested.merge_all(), Stream[int])
assert_type(nested.exclusive(), Stream[int])
assert_type(nested.flat_map(), Stream[int])
assert_type(written.default_if_empty(), Stream[str | None])
assert_type(written.default_if_empty(0), Stream[str | int])
assert_type(written.find(lambda token, index, _: index > len(token)), Stream[str | None])
assert_type(written.find_index(lambda token, index, _: index > len(token)), Stream[int | None])
assert_type(written.all(is_long), Stream[bool])
assert_type(written.some(), Stream[bool])
assert_type(written.is_empty(), Stream[bool])
assert_type(written.contains("a"), Stream[bool])
assert_type(written.sequence_equal(["a"]), Stream[bool])
assert_type(written.catch(numbers), Stream[str | int])
assert_type(written.catch(lambda error, source: source), Stream[str])
assert_type(written.retry(2), Stream[str])
assert_type(written.on_error_resume_next(written), Stream[str])
assert_type(written.filter(lambda token: token.isalpha()), Stream[str])
assert_type(written.filter_indexed(is_odd), Stream[str])
assert_type(written.take(1).take_last(1), Stream[str])
assert_type(written.take_last_buffer(2), Stream[list[str]])
assert_type(written.take_while(lambda token: token.isalpha(), inclusive=True), Stream[str])
assert_type(written.take_while_indexed(is_odd), Stream[str])
assert_type(written.take_until(numbers), Stream[str])
assert_type(written.take_with_time(1).take_last_with_time(1), Stream[str])
assert_type(written.take_until_with_time(1), Stream[str])
assert_type(written.skip(1).skip_last(1), Stream[str])
assert_type(written.skip_while(is_long).skip_while_indexed(is_odd), Stream[str])
assert_type(written.skip_until(numbers).skip_until_with_time(1), Stream[str])
assert_type(written.skip_with_time(1).skip_last_with_time(1), Stream[str])
assert_type(written.first().last().single(), Stream[str])
assert_type(written.element_at(1), Stream[str])
assert_type(written.first_or_default(), Stream[str | None])
assert_type(written.first_or_default(is_long, 0), Stream[str | int])
assert_type(written.single_or_default(default_value=0), Stream[str | int])
assert_type(written.last_or_default(""), Stream[str])
assert_type(written.single_or_default_async(True, ""), Stream[str])
assert_type(written.element_at_or_default(1), Stream[str | None])
assert_type(written.slice(1, 5, 2), Stream[str])
assert_type(written.distinct(len), Stream[str])
assert_type(written.distinct_until_changed(), Stream[str])
assert_type(written.count(), Stream[int])
assert_type(numbers.sum(), Stream[float])
assert_type(written.sum(len), Stream[float])
assert_type(numbers.average(), Stream[float])
assert_type(written.average(len), Stream[float])
assert_type(written.min().max(), Stream[str])
assert_type(written.min_by(len), Stream[list[str]])
assert_type(written.max_by(lambda token: len(token)), Stream[list[str]])
assert_type(written.map_indexed(is_odd), Stream[bool])
assert_type(written.flat_map(lambda token: reactivex.of(len(token))), Stream[int])
assert_type(written.flat_map_indexed(two_later), Stream[int])
assert_type(written.flat_map_latest(length_later), Stream[int])
assert_type(written.concat_map(length_later), Stream[int])
assert_type(written.switch_map(length_later), Stream[int])
assert_type(written.switch_map_indexed(two_later), Stream[int])
assert_type(written.expand(lambda token: reactivex.of(token[1:])), Stream[str])
assert_type(written.reduce(joined), Stream[str])
assert_type(written.reduce(added, 0), Stream[int])
assert_type(written.scan(added, 0), Stream[int])
assert_type(written.pairwise(), Stream[tuple[str, str]])
assert_type(written.pairwise().starmap(joined), Stream[str])
assert_type(written.pairwise().starmap_indexed(joined_times), Stream[str])
assert_type(written.map(lambda token: {"a": len(token)}).pluck("a"), Stream[int])
assert_type(written.pluck_attr("upper"), Stream[object])
assert_type(written.share(), Stream[str])
assert_type(written.publish(), ConnectableStream[str])
assert_type(written.publish().ref_count(), Stream[str])
assert_type(written.publish(lengths_of), Stream[int])
assert_type(written.publish_value(""), ConnectableStream[str])
assert_type(written.replay(5), ConnectableStream[str])
assert_type(written.multicast(reactivex.Subject[str]()), ConnectableStream[str])
assert_type(written.sample(1).debounce(1), Stream[str])
assert_type(written.throttle_first(1).throttle_with_timeout(1), Stream[str])
assert_type(written.throttle_with_mapper(length_later), Stream[str])
assert_type(written.delay(1).delay_subscription(1), Stream[str])
assert_type(written.delay_with_mapper(length_later), Stream[str])
assert_type(written.timeout(1), Stream[str])
assert_type(written.timeout(1, written), Stream[str])
assert_type(written.timeout_with_mapper(numbers, length_later), Stream[str])
assert_type(written.timestamp().map(lambda item: item.value), Stream[str])
assert_type(written.time_interval().map(lambda item: item.value), Stream[str])
assert_type(written.observe_on(CurrentThreadScheduler()), Stream[str])
assert_type(written.subscribe_on(CurrentThreadScheduler()), Stream[str])
assert_type(written.do_action(print).do(print), Stream[str])
assert_type(written.do_action(lambda token: token.upper(), on_completed=print), Stream[str])
assert_type(written.do_while(lambda _: False).while_do(lambda _: False), Stream[str])
assert_type(written.finally_action(print).ignore_elements(), Stream[str])
assert_type(written.repeat(2).as_observable(), Stream[str])
assert_type(written.materialize(), Stream[Notification[str]])
assert_type(written.materialize().dematerialize(), Stream[str])
assert_type(written.to_list(), Stream[list[str]])
assert_type(written.to_iterable(), Stream[list[str]])
assert_type(written.to_set(), Stream[set[str]])
assert_type(written.to_dict(len), Stream[dict[int, str]])
assert_type(written.to_dict(len, is_long), Stream[dict[int, bool]])
assert_type(written.to_future(), Future[str])
assert_type(written.to_marbles(), Stream[str])
assert_type(written.partition(is_long), list[Stream[str]])
assert_type(written.partition_indexed(is_odd), list[Stream[str]])
assert_type(written.group_by(len), Stream[GroupedObservable[int, str]])
assert_type(written.group_by(len, is_long), Stream[GroupedObservable[int, bool]])
assert_type(
    written.group_by_until(len, None, key_of),
    Stream[GroupedObservable[int, str]],
)
assert_type(written.buffer(numbers), Stream[list[str]])
assert_type(written.buffer_with_count(2), Stream[list[str]])
assert_type(written.buffer_with_time(1), Stream[list[str]])
assert_type(written.buffer_with_time_or_count(1, 2), Stream[list[str]])
assert_type(written.buffer_when(lambda: numbers), Stream[list[str]])
assert_type(written.buffer_toggle(numbers, lambda _: numbers), Stream[list[str]])
assert_type(written.window(numbers), Stream[Observable[str]])
assert_type(written.window_with_count(2), Stream[Observable[str]])
assert_type(written.window_with_time(1), Stream[Observable[str]])
assert_type(written.window_with_time_or_count(1, 2), Stream[Observable[str]])
assert_type(written.window_when(lambda: numbers), Stream[Observable[str]])
assert_type(written.window_toggle(numbers, lambda _: numbers), Stream[Observable[str]])
scripted: Stream[CompletionEvent] = answer("Hel", wait(2), "lo", finish())
one: CompletionEvent = completion("Hel")
played: ScriptedServer = replay("a.jsonl", speed=None, faults={3: "drop"})
in_virtual_time: Stream[bytes] = replay("a.jsonl", scheduler=VirtualTimeScheduler())
with record("a.jsonl", redact=bytes.lower):
    played.script(["Hel", finish()], lambda request: [request.path])
traced: Mistral = Mistral("key", telemetry=OpenTelemetry(capture_content=True))
traced_demo: Mistral = Mistral.demo(telemetry=OpenTelemetry())
replay("a.jsonl", faults={3: "bang"})  # type: ignore[dict-item]
answer(5)  # type: ignore[arg-type]
Mistral("key", telemetry="otel")  # type: ignore[arg-type]
rxmistral.nothing  # type: ignore[attr-defined]  # noqa: B018
rxmistral.testing.nothing  # type: ignore[attr-defined]  # noqa: B018
rxmistral.models.UserMessage(content="a name that is loaded on use")
