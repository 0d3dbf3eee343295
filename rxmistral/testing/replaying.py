"""Replays recordings: as a server on the loopback interface, or as a Stream in virtual time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher, unified_diff
from os import PathLike
from threading import Lock
from typing import Literal, TypeAlias, get_args, overload
from urllib.parse import urlsplit

from reactivex import abc

from ..checks import check_callback, check_integer, check_seconds
from ..errors import DroppedStreamError, RequestTimeoutError, StreamTimeoutError
from ..rx.stream import Stream
from . import steps
from .compiler import compile_script
from .received import ReceivedRequest
from .recordings import Exchange, RecordedRequest, read_recording
from .scripted_blocks import scripted_blocks
from .server import ScriptedServer
from .steps import Script, Step

__all__ = ["Fault", "replay"]

Fault: TypeAlias = Literal["cut", "drop", "stall"]
"""How a replay ends early: cleanly, by closing the connection, or in silence."""

_ENDINGS: dict[str, Step] = {
    "eof": steps.end(),
    "cut": steps.end(),
    "drop": steps.drop(),
    "timeout": steps.hang(),  # so that the timeouts of this client decide
    "left": steps.hang(),  # how it would have continued is unknown
    "stall": steps.hang(),
}


@overload
def replay(
    path: str | PathLike[str],
    speed: float | None = 1,
    faults: Mapping[int, Fault] | None = None,
    *,
    redact: Callable[[bytes], bytes] | None = None,
) -> ScriptedServer: ...
@overload
def replay(
    path: str | PathLike[str],
    speed: float | None = 1,
    faults: Mapping[int, Fault] | None = None,
    *,
    scheduler: abc.SchedulerBase,
) -> Stream[bytes]: ...
def replay(
    path: str | PathLike[str],
    speed: float | None = 1,
    faults: Mapping[int, Fault] | None = None,
    *,
    redact: Callable[[bytes], bytes] | None = None,
    scheduler: abc.SchedulerBase | None = None,
) -> ScriptedServer | Stream[bytes]:
    """Returns a server that answers as it was recorded, or a Stream of the recorded blocks.

        with replay("recordings/paris.jsonl") as server, Mistral(server_url=server.url) as client:
            ...

    A request matches by its method, its path and its JSON body; the port, the headers and the
    order of keys do not count. Equal requests are answered in recorded order. A request that
    matches none, or one too many, is answered with status 400, and leaving the `with` block
    raises AssertionError, which shows the nearest recorded request. An answer that its reader
    left, or whose timeout expired, ends in silence.

    The Stream replaces `rxmistral.wire.blocks` in a pipe: `replay(path, scheduler=TestScheduler())
    .pipe(lines(), events(), completions())`. Each subscription plays the exchange again.

    Args:
        path: A recording, or a `.sse` file: the body of one answer, at once, to any request.
        speed: How many times faster than recorded; default 1. None: as fast as possible.
        faults: The numbers of blocks, counted from 1 through the whole file, at which an answer
            ends. That block is not sent. `cut`: the body ends cleanly; `drop`: the connection
            is closed; `stall`: nothing more is sent.
        redact: The `redact` of `record`, if it changes the bodies of requests.
        scheduler: Waits for the blocks of the Stream, such as a `TestScheduler` in virtual time.
            None: a server is returned.

    Raises:
        OSError: The file cannot be read.
        TypeError, ValueError: The file is not a recording, an argument cannot be used, or a Stream
            is to play several exchanges.
    """
    if speed is not None:
        check_seconds("speed", speed, "times")
    if redact is not None:
        check_callback("redact", redact)
    if scheduler is not None and not isinstance(scheduler, abc.SchedulerBase):
        raise TypeError(f"scheduler must be a reactivex scheduler, got {type(scheduler).__name__}")
    exchanges = read_recording(path)
    scripts = list(_scripts_of(exchanges, speed, _checked_faults(faults, exchanges)))
    if scheduler is None:
        requests = [exchange.request for exchange in exchanges]
        return ScriptedServer(_Replay(requests, scripts, redact))
    if len(exchanges) != 1:
        raise ValueError(
            f"a Stream plays one exchange, {path!r} contains {len(exchanges)}; "
            "replay it without a scheduler, as a server"
        )
    script = compile_script(scripts[0], "close", "", "")
    silence = _silence_of(exchanges[0], faults)
    return scripted_blocks(script, scheduler, silence, any_body=True)


def _checked_faults(
    faults: Mapping[int, Fault] | None, exchanges: list[Exchange]
) -> Mapping[int, Fault]:
    total = sum(len(exchange.blocks) for exchange in exchanges)
    for number, fault in (faults or {}).items():
        check_integer("a block in faults", number)
        if number > total:
            raise ValueError(f"faults: there is no block {number} among the {total} recorded")
        if fault not in get_args(Fault):
            raise ValueError(f"a fault is one of {', '.join(get_args(Fault))}, got {fault!r}")
    return faults or {}


# --- exchanges to scripts ---


def _scripts_of(
    exchanges: list[Exchange], speed: float | None, faults: Mapping[int, Fault]
) -> Iterator[Script]:
    first = 1
    for exchange in exchanges:
        yield list(_steps_of(exchange, speed, faults, first))
        first += len(exchange.blocks)


def _steps_of(
    exchange: Exchange, speed: float | None, faults: Mapping[int, Fault], first: int
) -> Iterator[Step]:
    def until(seconds: float) -> Step:
        return steps.until(0 if speed is None else max(seconds, 0) / speed)

    response, ending = exchange.response, _ENDINGS[exchange.end or "eof"]
    # Without any step for its body, a response is sent without chunked framing.
    is_empty = response is not None and not exchange.blocks and ending == steps.end()
    if response is not None:
        yield until(response.time)
        yield steps.status(response.status, headers=response.headers)
        if not is_empty:
            yield steps.headers()
    for number, block in enumerate(exchange.blocks, first):
        yield until(block.time)
        if number in faults:
            yield _ENDINGS[faults[number]]
            return
        yield steps.raw(block.data)
    yield until(exchange.end_time)
    if not is_empty:
        yield ending


def _silence_of(exchange: Exchange, faults: Mapping[int, Fault] | None) -> Exception | None:
    """Returns the error that the reader emitted when the server had fallen silent."""
    if faults:
        return None
    if exchange.end == "left":
        return DroppedStreamError("the recording ends here: its reader left")
    if exchange.response is None:
        return RequestTimeoutError("first", exchange.end_time)
    since = exchange.blocks[-1].time if exchange.blocks else 0.0
    return StreamTimeoutError("gap" if since else "first", exchange.end_time - since)


# --- requests to exchanges ---


class _Replay:
    """A chooser of the script of each request; called on the threads of the connections."""

    def __init__(
        self,
        requests: list[RecordedRequest | None],
        scripts: list[Script],
        redact: Callable[[bytes], bytes] | None,
    ) -> None:
        self._redact = redact
        self._lock = Lock()
        self._of_any: Script | None = None
        self._scripts: dict[_Key, list[Script]] = defaultdict(list)
        self._used: dict[_Key, int] = defaultdict(int)
        for request, script in zip(requests, scripts, strict=True):
            if request is None:
                self._of_any = script
            else:
                key = request.method, request.path, _canonical(request.body)
                self._scripts[key].append(script)

    def __call__(self, request: ReceivedRequest) -> Script:
        if self._of_any is not None:
            return self._of_any
        body = request.body if self._redact is None else self._redact(request.body)
        path = urlsplit(request.path).path
        key = request.method, path, _canonical(body.decode("utf-8", "surrogateescape"))
        with self._lock:
            count = self._used[key]
            self._used[key] += 1
        if key not in self._scripts:
            raise AssertionError(self._unknown(request, key))
        if count >= len(self._scripts[key]):
            raise AssertionError(
                f"{request!r} was recorded {_times(len(self._scripts[key]))}, and this is one more:"
                f"\n{key[2]}"
            )
        return self._scripts[key][count]

    def _unknown(self, request: ReceivedRequest, key: _Key) -> str:
        if not self._scripts:
            return f"{request!r} was not recorded: the recording is empty"
        nearest = max(self._scripts, key=lambda recorded: _similarity(recorded, key))
        difference = unified_diff(
            _shown(nearest),
            _shown(key),
            "the nearest recorded request",
            "this request",
            lineterm="",
        )
        return "\n".join([f"{request!r} was not recorded", *difference])


_Key: TypeAlias = tuple[str, str, str]  # method, path, canonical body


def _canonical(body: str) -> str:
    """Returns equal text for equal JSON; anything else as it is."""
    try:
        return json.dumps(json.loads(body), indent=2, sort_keys=True, ensure_ascii=False)
    except ValueError:
        return body


def _shown(key: _Key) -> list[str]:
    method, path, body = key
    return [f"{method} {path}", *body.splitlines()]


def _similarity(recorded: _Key, key: _Key) -> tuple[bool, float]:
    lines = SequenceMatcher(None, _shown(recorded), _shown(key), autojunk=False).ratio()
    characters = SequenceMatcher(None, recorded[2][-1000:], key[2][-1000:]).quick_ratio()
    return recorded[:2] == key[:2], lines + characters


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
