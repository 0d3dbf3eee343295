"""What can go wrong.

    MistralError                  whatever this library raises on purpose
    ├── RequestError              no answer came; nothing was emitted; may be repeated
    │   └── RequestTimeoutError     ... in time; also a builtin TimeoutError
    ├── StatusError               the service refused: .status .headers .body .message .type .code
    └── StreamError               the answer began and then broke; what was emitted stands
        ├── ProtocolError           it is not an event stream, or one event is too large
        ├── ChunkError              an event does not hold a chunk: .data, and msgspec's path
        ├── ReportedError           the service reported an error inside the stream
        ├── StreamTimeoutError      a clock ran out: .clock .seconds; also a TimeoutError
        ├── DroppedStreamError      the connection broke
        └── IncompleteStreamError   it ended with neither a finish_reason nor [DONE]

The upper split answers the two questions of whoever catches one: may I ask again,
and is what I have still good?  Calling the library wrongly raises a builtin
`ValueError` or `TypeError` at the call, before anything is sent.

Every error pickles, chains its cause, and builds its text from its attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

__all__ = [
    "ChunkError",
    "DroppedStreamError",
    "IncompleteStreamError",
    "MistralError",
    "ProtocolError",
    "ReportedError",
    "RequestError",
    "RequestTimeoutError",
    "StatusError",
    "StreamError",
    "StreamTimeoutError",
]

_EXCERPT = 500  # characters of a body or an event that an error's text shows


class MistralError(Exception):
    """Whatever this library raises on purpose.

    Not raised itself. Catch it to catch everything below; a `ValueError` or a
    `TypeError` about the arguments of a call is not among it.
    """

    __match_args__: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        # BaseException would call the class with .args, which OSError and a
        # keyword constructor both spoil.
        fields = tuple(getattr(self, name) for name in self.__match_args__)
        return type(self), fields, self.__dict__.copy()


# --- no answer -------------------------------------------------------------------


class RequestError(MistralError):
    """No answer came: the name does not resolve, nobody listens, TLS failed, the
    connection broke before the headers.

    Nothing was emitted. Whether the service saw the request is not known. Asking
    again is safe for the text, and may cost a second generation.
    """

    __match_args__ = ("reason",)

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no answer came: {self.reason}"


class RequestTimeoutError(RequestError, TimeoutError):
    """No answer came in time: `clock` is "connect" or "headers", and `seconds` how
    long it was given.

    Not a gap in an answer that had begun: that is `StreamTimeoutError`.
    """

    __match_args__ = ("clock", "seconds")

    def __init__(self, clock: str, seconds: float) -> None:
        waited_for = "a connection" if clock == "connect" else "the headers of the answer"
        super().__init__(f"waited {seconds:g} s for {waited_for}")
        self.clock = clock
        self.seconds = seconds


# --- a refusal -------------------------------------------------------------------


class StatusError(MistralError):
    """The service refused: it answered with a status other than 200.

    Nothing was emitted. 429 and 5xx may be repeated after a while (see the
    `Retry-After` header); any other status will be refused again.

    Attributes:
        status: The status code.
        headers: The headers of the answer; look-ups ignore case.
        body: The body as text, at most 1 MiB of it.
        message: What the service said, found in whatever shape it said it; the
            body's beginning when it is none of the known shapes.
        type: The service's word for the kind of error, or None.
        code: The service's code, as a string, or None.
    """

    __match_args__ = ("status", "headers", "body")

    def __init__(self, status: int, headers: Mapping[str, str], body: str) -> None:
        super().__init__(status, headers, body)
        self.status = status
        self.headers = headers
        self.body = body
        said = read_report(body)
        self.message = said.message or excerpt(body)
        self.type = said.type
        self.code = said.code

    def __str__(self) -> str:
        said = self.message or "(an empty body)"
        return f"the service refused with status {_status_line(self.status)}: {said}"


# --- a broken answer -------------------------------------------------------------


class StreamError(MistralError):
    """The answer began and then broke. What was emitted before stands.

    Not raised itself. Asking again gives another answer, not the rest of this one.
    """


class ProtocolError(StreamError):
    """The answer is not an event stream (`body` shows what it is instead), or one
    event of it is larger than allowed.

    Usually a wrong `server_url`, or a proxy that answers in the service's place.
    """

    __match_args__ = ("reason", "body")

    def __init__(self, reason: str, body: str | None = None) -> None:
        super().__init__(reason, body)
        self.reason = reason
        self.body = body

    def __str__(self) -> str:
        return self.reason if self.body is None else f"{self.reason}: {excerpt(self.body)}"


class ChunkError(StreamError):
    """An event of the stream does not hold a completion chunk.

    Attributes:
        data: The event's data.
        reason: What is wrong with it and where, as msgspec says it: the path
            `$.choices[0].delta` is the delta of the first choice.
    """

    __match_args__ = ("data", "reason")

    def __init__(self, data: str, reason: str) -> None:
        super().__init__(data, reason)
        self.data = data
        self.reason = reason

    def __str__(self) -> str:
        return f"an event does not hold a chunk ({self.reason}): {excerpt(self.data)}"


class ReportedError(StreamError):
    """The service reported an error inside a stream that had begun with status 200.

    Not a refusal: that comes as a status, and as `StatusError`.

    Attributes:
        message: What the service said.
        type: The service's word for the kind of error, or None.
        code: The service's code, as a string, or None.
    """

    __match_args__ = ("message", "type", "code")

    def __init__(self, message: str, type: str | None = None, code: str | None = None) -> None:
        super().__init__(message, type, code)
        self.message = message
        self.type = type
        self.code = code

    def __str__(self) -> str:
        named = [part for part in (self.type, self.code and f"code {self.code}") if part]
        return f"the service reported an error: {self.message}" + (
            f" ({', '.join(named)})" if named else ""
        )


class StreamTimeoutError(StreamError, TimeoutError):
    """A clock ran out in the middle of an answer.

    `clock` names it ("gap": nothing came for `seconds` seconds). The time that a
    subscriber takes for itself does not count. Give `timeout_ms` for another gap.
    """

    __match_args__ = ("clock", "seconds")

    def __init__(self, clock: str, seconds: float) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the {self.clock} clock ran out: nothing came for {self.seconds:g} s"


class DroppedStreamError(StreamError):
    """The connection broke in the middle of an answer.

    Not an answer that ended too early but cleanly: that is `IncompleteStreamError`.
    """

    __match_args__ = ("reason",)

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the connection broke in the middle of the answer: {self.reason}"


class IncompleteStreamError(StreamError):
    """The answer ended cleanly, but with neither a finish_reason nor `[DONE]`:
    something between here and the model cut it, and what is here may not be all.

    For a server that never sends either, give `accept_clean_end=True`.
    """

    def __str__(self) -> str:
        return (
            "the answer ended with neither a finish_reason nor [DONE]; it may be cut short "
            "(accept_clean_end=True takes such an end for an end)"
        )


# --- how services word their errors ----------------------------------------------
#
# One service words an error in half a dozen shapes, and the gateways in front of it
# add theirs. All of them nest the same few words, so one walk finds them all:
#
#   {"detail": "Unauthorized"}                          {"message": "rate limit exceeded"}
#   {"detail": [{"type", "loc", "msg", "input"}]}       {"error": "text"}
#   {"object": "error", "message": "...", "type", "code"}
#   {"object": "error", "message": {"detail": [...]}}   {"error": {"message", "type", "code"}}


class Report(NamedTuple):
    """An error in the service's words; each is None where it said nothing."""

    message: str | None = None
    type: str | None = None
    code: str | None = None


def read_report(text: str) -> Report:
    """The words of an error in a body or an event's data, whatever its shape."""
    return _walk(_decoded(text))


def reported_error(data: str, event: str = "message") -> ReportedError | None:
    """The error that an event reports, or None where it reports none.

    An error is an event of the type "error", `{"object": "error", ...}`, or anything
    under a key `error`.
    """
    value = _decoded(data)
    if event != "error" and not _is_error(value):
        return None
    said = _walk(value)
    return ReportedError(said.message or excerpt(data), said.type, said.code)


def _is_error(value: object) -> bool:
    return isinstance(value, dict) and (value.get("object") == "error" or bool(value.get("error")))


def excerpt(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: 4 * _EXCERPT].split())
    return line if len(line) <= _EXCERPT else line[:_EXCERPT] + "..."


def _decoded(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _walk(value: Any) -> Report:
    if isinstance(value, str):
        return Report(value or None)
    if isinstance(value, list):
        return _walk_problems(value)
    if not isinstance(value, dict):
        return Report()
    inner = _first(
        _walk(value[key]) for key in ("error", "message", "detail", "msg") if key in value
    )
    return Report(inner.message, inner.type or _word(value.get("type")), inner.code or _code(value))


def _walk_problems(problems: list[Any]) -> Report:
    """What FastAPI's validation says: one problem an item, each with its place."""
    said = [_place(problem) + (_walk(problem).message or "") for problem in problems]
    first = _first(_walk(problem) for problem in problems)
    return Report("; ".join(filter(None, said)) or None, first.type, first.code)


def _place(problem: Any) -> str:
    place = problem.get("loc") if isinstance(problem, dict) else None
    return ".".join(map(str, place)) + ": " if isinstance(place, list) else ""


def _first(reports: Any) -> Report:
    return next((report for report in reports if report.message), Report())


def _code(value: dict[str, Any]) -> str | None:
    code = value.get("code")
    return None if code is None or isinstance(code, (dict, list)) else str(code)


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:  # 520, 529: not in the registry, but on the wire
        return str(status)
