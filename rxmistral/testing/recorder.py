"""Records exchanges with servers into files; see `recordings` for their format."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TypeAlias
from urllib.parse import urlsplit

from ..checks import check_callback
from ..error_report import without_secrets
from ..rx.clock import monotonic
from ..rx.threads import fork_safe
from ..wire.taps import End, install_tap, remove_tap
from .key_search import contains_key, keys_of
from .recordings import Block, Exchange, RecordedRequest, RecordedResponse, encode_exchange

__all__ = ["ClientRecorder", "record"]

Redact: TypeAlias = Callable[[bytes], bytes]

_HEADERS = {
    "content-type",
    "deprecation",
    "mistral-correlation-id",
    "retry-after",
    "retry-after-ms",
    "sunset",
    "x-model-deprecation-timestamp",
}
_HEADER_PREFIXES = ("ratelimit", "x-ratelimit")


def record(path: str | PathLike[str], redact: Redact | None = None) -> AbstractContextManager[None]:
    """Records every exchange with a server that this process begins within the `with` block.

        with record("recordings/paris.jsonl"), Mistral() as client:
            client.chat.stream(...).pipe(text()).run()

    The file is written when the block is left, also by an exception, and replaces an older one.
    An answer that is still running then is recorded as far as it has arrived. Of the headers, only
    those that a test may need are written: content type, retry-after, rate limits, correlation id
    and deprecation. User name, password and query are removed from the URL.

    Args:
        path: The file; its folder is created if it is missing.
        redact: Called with the body of each request, and with each event of an answer; the bytes
            that it returns are written instead. None: nothing is changed.

    Raises:
        ValueError: The key of a request, of 6 characters or more, occurs in the exchange, so
            nothing is written.
        BaseException: What `redact` raised; nothing is written.
    """
    return _recording_to(Path(path).absolute(), _BlockRecorder(redact))


@contextmanager
def _recording_to(path: Path, recorder: _BlockRecorder) -> Iterator[None]:
    install_tap(recorder)
    try:
        try:
            yield
        finally:
            remove_tap(recorder)
    except BaseException as raised:
        try:
            recorder.save(path)
        except Exception as error:
            raised.add_note(f"The recording was not written: {error}")
        raise
    recorder.save(path)


class _BlockRecorder:
    """The tap of one `record` block."""

    def __init__(self, redact: Redact | None) -> None:
        if redact is not None:
            check_callback("redact", redact)
        self._redact = redact
        self._lock = fork_safe(Lock())
        self._recordings: list[_Recording] = []

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> _Recording:
        recording = _Recording(method, url, headers, body)
        with self._lock:
            self._recordings.append(recording)
        return recording

    def save(self, path: Path) -> None:
        for recording in self._recordings:
            recording.on_end("left")  # those that still run; others have ended already
        keys = {key for recording in self._recordings for key in recording.keys}
        lines = [_written(recording, keys, self._redact) for recording in self._recordings]
        _replace_file(path, b"".join(lines))


class ClientRecorder:
    """The tap of one client, which appends each exchange to a file when it has ended.

    An exchange that contains a key that the client has used is not written, with a UserWarning.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        if not isinstance(path, (str, PathLike)):
            raise TypeError(f"record must be a path, got {type(path).__name__}")
        self._path = Path(path).absolute()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = fork_safe(Lock())
        self._keys: frozenset[str] = frozenset()

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> _Recording:
        return _Recording(method, url, headers, body, self._append)

    def _append(self, recording: _Recording) -> None:
        try:
            with self._lock:
                self._keys |= recording.keys
                lines = _written(recording, self._keys, None)
                with self._path.open("ab", buffering=0) as file:
                    file.write(lines)
        except (ValueError, OSError) as error:
            # A filter may raise the warning, which must not end the answer.
            with suppress(UserWarning):
                warnings.warn(f"an exchange was not recorded: {error}", UserWarning, 2)


class _Recording:
    """One exchange while it is under way: the `rxmistral.wire.taps.Exchange` of its reader."""

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        on_ended: Callable[[_Recording], None] | None = None,
    ) -> None:
        self._began = monotonic()
        self._on_ended = on_ended
        self._lock = Lock()
        self.body = body
        self.keys = frozenset(keys_of(headers))
        url = without_secrets(url)
        self.exchange = Exchange(RecordedRequest(method, url, _allowed(headers), ""))

    def on_response(self, status: int, headers: Mapping[str, str]) -> None:
        with self._lock:
            if self.exchange.end is None:
                self.exchange.response = RecordedResponse(self._time(), status, _allowed(headers))

    def on_block(self, block: bytes) -> None:
        with self._lock:
            if self.exchange.end is None:
                self.exchange.blocks.append(Block(self._time(), block))

    def on_end(self, end: End) -> None:
        with self._lock:
            if self.exchange.end is not None:
                return
            self.exchange.end, self.exchange.end_time = end, self._time()
        if self._on_ended is not None:
            self._on_ended(self)

    def _time(self) -> float:
        return monotonic() - self._began


# --- the lines of a recording ---


def _allowed(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    return {
        name: value
        for name, value in lowered.items()
        if name in _HEADERS or name.startswith(_HEADER_PREFIXES)
    }


def _written(recording: _Recording, keys: Iterable[str], redact: Redact | None) -> bytes:
    """Returns the lines of an exchange; raises ValueError if they contain a key."""
    exchange, body = recording.exchange, recording.body
    if redact is not None:
        body = _redacted(body, redact)
        exchange = replace(exchange, blocks=list(_redacted_blocks(exchange.blocks, redact)))
    assert exchange.request is not None
    request = exchange.request._replace(body=body.decode("utf-8", "surrogateescape"))
    lines = encode_exchange(replace(exchange, request=request))
    if contains_key(keys, (lines, body), b"".join(block.data for block in exchange.blocks)):
        raise ValueError(  # without the URL, which may contain it
            f"the key occurs in an exchange with {urlsplit(request.url).hostname}: a file with the "
            "key is not written; replace the key with redact, or do not send it in a message"
        )
    return lines


def _redacted(data: bytes, redact: Redact) -> bytes:
    redacted = redact(data)
    if not isinstance(redacted, bytes):
        raise TypeError(f"redact must return bytes, got {type(redacted).__name__}")
    return redacted


def _redacted_blocks(blocks: Iterable[Block], redact: Redact) -> Iterator[Block]:
    """Redacts whole events. Blocks that share a changed event become one, at the latest time."""
    group: list[Block] = []
    for block in blocks:
        group.append(block)
        if block.data.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
            yield from _redacted_group(group, redact)
            group = []
    yield from _redacted_group(group, redact)


def _redacted_group(group: list[Block], redact: Redact) -> Iterator[Block]:
    data = b"".join(block.data for block in group)
    redacted = _redacted(data, redact) if data else data
    if redacted == data:
        yield from group
    elif redacted:
        yield Block(group[-1].time, redacted)


def _replace_file(path: Path, content: bytes) -> None:
    """Writes a file as a whole: no other program sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
