"""What can go wrong.

    MistralError                  whatever this library raises on purpose
    ├── RequestError              no answer came; nothing was emitted; may be repeated
    │   └── RequestTimeoutError     ... in time; also a builtin TimeoutError
    ├── StatusError               the service refused: .status .headers .body .message .type .code .url
    │   ├── AuthenticationError     401, 403: the key is not accepted
    │   └── RateLimitError          429: .retry_after
    ├── AllFailedError            of several streams none brought an answer: .errors
    ├── InvalidAnswerError        it is whole, but not the value asked for: .type .reason .text
    ├── GuardError                the text matched what it must not: .position
    ├── LogError                  a log of answers does not do what it should
    │   ├── LogUnavailableError     its broker is away: .seconds
    │   ├── UnknownRunError         it has no such run: .run_id
    │   └── FencedError             another producer writes this run: .run_id
    └── StreamError               the answer began and then broke; what was emitted stands: .partial
        ├── ProtocolError           it is not an event stream, or one event is too large
        ├── ChunkError              an event does not hold a chunk, but broken JSON: .data .reason
        ├── ReportedError           the service reported an error inside the stream
        ├── StreamTimeoutError      a timeout expired: .clock .seconds; also a TimeoutError
        ├── DroppedStreamError      the connection broke
        ├── IncompleteStreamError   it ended with neither a finish_reason nor [DONE]
        ├── StoppedError            it was stopped, for all who read it
        ├── LaggedError             this reader was too slow, or came too late: .missed
        └── LostProducerError       who wrote it died without a word: .run_id .seconds

The upper split answers the two questions of whoever catches one: may I ask again,
and is what I have still good?  Calling the library wrongly raises a builtin
`ValueError` or `TypeError` at the call, before anything is sent.

Every error pickles, chains its cause, and builds its text from its attributes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from .error_report import (
    excerpt,
    page_text,
    read_report,
    report_in_event,
    with_upstream_message,
    without_secrets,
)

if TYPE_CHECKING:  # the type of what a broken answer holds; nothing here makes one
    from .models import ChatCompletionResponse

__all__ = [
    "AllFailedError",
    "AuthenticationError",
    "ChunkError",
    "DroppedStreamError",
    "FencedError",
    "GuardError",
    "IncompleteStreamError",
    "InvalidAnswerError",
    "LaggedError",
    "LogError",
    "LogUnavailableError",
    "LostProducerError",
    "MistralError",
    "ProtocolError",
    "RateLimitError",
    "ReportedError",
    "RequestError",
    "RequestTimeoutError",
    "StatusError",
    "StoppedError",
    "StreamError",
    "StreamTimeoutError",
    "UnknownRunError",
]

E = TypeVar("E", bound=BaseException)

_SHORTEST_KEY = 8  # characters


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

    Attributes:
        reason: What went wrong.
        host: The host, and port if the URL has one, that was asked; None if there is none.
        proxy: The host and port of the proxy in between, or None.
        is_permanent: Whether the same request would fail again: the name is unknown, the
            certificate is not trusted, the URL is not valid. `Retry` does not repeat it.
    """

    __match_args__ = ("reason", "host", "proxy", "is_permanent")

    def __init__(
        self,
        reason: str,
        host: str | None = None,
        proxy: str | None = None,
        is_permanent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.host = host
        self.proxy = proxy
        self.is_permanent = is_permanent

    def __str__(self) -> str:
        host = f" from {self.host}" if self.host else ""
        proxy = f" through the proxy {self.proxy}" if self.proxy else ""
        return f"no answer came{host}{proxy}: {self.reason}"


class RequestTimeoutError(RequestError, TimeoutError):
    """No answer came in time.

    Not a silence in an answer that had begun: that is `StreamTimeoutError`.

    Attributes:
        clock: The timeout that expired: "connect", "first", "gap" or "total", as in
            `Timeouts`.
        seconds: How long it was.
    """

    __match_args__ = ("clock", "seconds", "host", "proxy")

    def __init__(
        self, clock: str, seconds: float, host: str | None = None, proxy: str | None = None
    ) -> None:
        awaited = "a connection" if clock == "connect" else "the headers of the answer"
        super().__init__(
            f"the {clock} timeout expired: waited {seconds:g} s for {awaited}{_more_time(clock)}",
            host,
            proxy,
        )
        self.clock = clock
        self.seconds = seconds


def _more_time(clock: str) -> str:
    return f"; allow more in Timeouts({clock}=...)"


# --- a refusal -------------------------------------------------------------------


class StatusError(MistralError):
    """The service refused: it answered with a status other than 200.

    Nothing was emitted. 429 and 5xx may be repeated after a while (see the
    `Retry-After` header); any other status will be refused again.

    Attributes:
        status: The status code.
        headers: The headers of the answer; look-ups ignore case.
        body: The body as text, at most 1 MiB of it.
        url: The URL that was asked, without credentials and query; None if not known.
        message: What the service said, found in whatever shape it said it; the title or
            the text of an HTML page; otherwise the beginning of the body.
        type: The service's word for the kind of error, or None.
        code: The service's code, as a string, or None.
    """

    __match_args__ = ("status", "headers", "body", "url")

    def __init__(
        self, status: int, headers: Mapping[str, str], body: str, url: str | None = None
    ) -> None:
        super().__init__(status, headers, body, url)
        self.status = status
        self.headers = headers
        self.body = body
        self.url = url
        said = read_report(body)
        self.message = said.message or excerpt(page_text(body))
        self.type = said.type
        self.code = said.code

    def __str__(self) -> str:
        said = excerpt(with_upstream_message(self.message, self.body)) or "(an empty body)"
        asked = f" (asked {self.url})" if self.url else ""
        remedy = self._redirection() or _remedy(self.status)
        return f"the service refused with status {_status_line(self.status)}: {said}{asked}{remedy}"

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the service wants to be asked again; None if it does not say.

        Source: RFC 9110, 10.2.3, and `retry-after-ms`, which is more exact.
        """
        milliseconds = _number_in(self.headers.get("retry-after-ms"))
        if milliseconds is not None:
            return milliseconds / 1000
        text = self.headers.get("Retry-After")
        seconds = _number_in(text)
        return seconds if seconds is not None else _until_date(text)

    def _redirection(self) -> str:
        location = self.headers.get("Location") if 300 <= self.status < 400 else None
        return (
            f"; it redirects to {without_secrets(location)!r}, which was not followed"
            if location
            else ""
        )


class AuthenticationError(StatusError):
    """The service did not accept the key, or the key may not do this: status 401 or 403."""


class RateLimitError(StatusError):
    """Too many requests, or too many tokens: status 429. `retry_after` says how long to wait,
    in seconds."""


def _number_in(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until_date(text: str | None) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(text or "").timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


_REMEDIES = {
    401: "check the API key",
    403: "check what the API key may do",
    404: "check server_url and model",
    405: "check server_url",
    407: "check the credentials of the proxy",
    413: "send less",
    429: "ask again later, as Retry does",
}


def _remedy(status: int) -> str:
    remedy = _REMEDIES.get(status, "ask again later, as Retry does" if status >= 500 else "")
    return remedy and f"; {remedy}"


# --- several refusals ------------------------------------------------------------


class AllFailedError(MistralError):
    """Of the streams given to `fallback` or `hedge` none brought an answer.

    Nothing was emitted. Whether asking again may help is said by each of the errors.

    Not an `ExceptionGroup`: it is one failure that has several reasons. `except
    MistralError` has to catch it, as it would what each of the streams fails with, and
    `on_error` takes one error; of a group, an `except*` that handles one of the reasons
    would raise the others again.

    Attributes:
        errors: What each of them failed with, in the order of the streams.
    """

    __match_args__ = ("errors",)

    def __init__(self, errors: Iterable[Exception]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        said = (excerpt(str(error)) or type(error).__name__ for error in self.errors)
        listed = "; ".join(f"({number}) {each}" for number, each in enumerate(said, 1))
        return f"none of {len(self.errors)} streams brought an answer: {listed}"


# --- another answer --------------------------------------------------------------


class InvalidAnswerError(MistralError):
    """The answer ended as it should, but its text is not the JSON of the value that was
    asked for.

    Not a broken answer: that is a `StreamError`. Most often it was cut short, with the
    finish_reason "length" (give more `max_tokens`), or the request did not ask for this
    JSON (give the type as `response_format`).

    Attributes:
        type: The name of the type that was asked for.
        reason: What is wrong and where, as msgspec says it: the path `$.steps[0]` is
            the first of the steps.
        text: The text; of an array that is read item by item, that of the item.
    """

    __match_args__ = ("type", "reason", "text")

    def __init__(self, type: str, reason: str, text: str) -> None:
        super().__init__(type, reason, text)
        self.type = type
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        said = excerpt(self.text) or "(no text)"
        return f"the answer is not JSON of the type {self.type} ({self.reason}): {said}"


# --- an answer that is stopped ---------------------------------------------------


class GuardError(MistralError):
    """The text matched a pattern that `guarded(on_match="stop")` stops at; the answer
    was cancelled there.

    What was emitted stands: it is the text up to the match, and nothing of the match is
    in it, nor in this error. Not a fault of the service or of the connection. Asking
    again gives another answer, which may match again.

    Attributes:
        position: Where in the text the match begins, in characters.
    """

    __match_args__ = ("position",)

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position

    def __str__(self) -> str:
        return f"the text was stopped before a match at character {self.position}"


# --- a log that fails -------------------------------------------------------------


class LogError(MistralError):
    """A log of answers does not do what it should: what `to_log` writes cannot be kept,
    or what `from_log` reads cannot be had.

    Raised itself where the broker refuses: `reason` is what it said. The answer is not
    hurt by it: who runs it receives all of it, and this in place of the completion.
    """

    __match_args__ = ("reason",)

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the log failed: {self.reason}"


class LogUnavailableError(LogError):
    """The broker of a log was away for longer than it may be.

    What was written before is there when it comes back.

    Attributes:
        reason: What the last try met.
        seconds: How long it was waited for.
    """

    __match_args__ = ("reason", "seconds")

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the log was unavailable for {self.seconds:g} s: {self.reason}"


class UnknownRunError(LogError):
    """The log has no run with this id: nobody has begun it yet, or it has expired.

    Attributes:
        run_id: The id.
    """

    __match_args__ = ("run_id",)

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"the log does not have the run {self.run_id!r}: not begun yet, or expired"


class FencedError(LogError):
    """Another producer writes the run with this id, or has ended it: this one is fenced
    out, and nothing that it wrote from then on is in the log.

    Attributes:
        run_id: The id.
    """

    __match_args__ = ("run_id",)

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"another producer has the run {self.run_id!r}: nothing more of this one is kept"


# --- a broken answer -------------------------------------------------------------


class StreamError(MistralError):
    """The answer began and then broke. What was emitted before stands.

    Not raised itself. Asking again gives another answer, not the rest of this one;
    `Resume` asks for the rest.

    Attributes:
        partial: The response as far as it came: text, thinking, complete tool calls, and
            `UnfinishedToolCall`s for those that may not be. None where no completion
            was decoded, as in a pipe of lines or events.
    """

    partial: ChatCompletionResponse | None = None


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
        if self.body is None:
            return self.reason
        return f"{self.reason}: {excerpt(page_text(self.body)) or '(an empty body)'}"


class ChunkError(StreamError):
    """An event of the stream does not hold a completion chunk: its data is a JSON object
    that is broken.

    Attributes:
        data: The event's data.
        reason: What is wrong with it and where, as the parser of JSON says it.
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
        said = excerpt(self.message) or "(without a message)"
        return f"the service reported an error: {said}" + (
            f" ({', '.join(named)})" if named else ""
        )


class StreamTimeoutError(StreamError, TimeoutError):
    """A timeout expired in the middle of an answer: nothing useful came for too long.

    Comments and empty deltas are not useful, and the time that a subscriber takes for
    itself does not count.

    Attributes:
        clock: The timeout that expired: "first", "gap", "thinking_gap" or "total", as in
            `Timeouts`.
        seconds: How long it was.
    """

    __match_args__ = ("clock", "seconds")

    def __init__(self, clock: str, seconds: float) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds

    def __str__(self) -> str:
        waited = (
            f"the answer took more than {self.seconds:g} s"
            if self.clock == "total"
            else f"nothing useful came for {self.seconds:g} s"
        )
        return f"the {self.clock} timeout expired: {waited}{_more_time(self.clock)}"


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

    For a server that never sends either, give `accept_clean_end=True`. An answer that has
    a `reason` is incomplete with that as well.

    Attributes:
        reason: Why this is not the end of any answer: it brought nothing, or ended inside
            an event. None if it may be one.
    """

    __match_args__ = ("reason",)

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        if self.reason is not None:
            return f"the answer is incomplete: {self.reason}"
        return (
            "the answer may be cut short: it ended with neither a finish_reason nor [DONE]; "
            "accept_clean_end=True accepts such an end"
        )


class StoppedError(StreamError):
    """The answer was stopped for all who read it: by `stop()`, or because nobody had
    watched it for as long as its `linger` says.

    Not who leaves alone, by `dispose()` or `break`: he is told nothing.
    """

    def __str__(self) -> str:
        return "the answer was stopped, for all its readers"


class LaggedError(StreamError):
    """This reader was too slow, or came too late: what it would have to take next is no
    longer kept. The answer goes on, and its other readers with it.

    Give more `max_items`, or say what is to be done with who is slow.

    Attributes:
        missed: How many items are gone.
    """

    __match_args__ = ("missed",)

    def __init__(self, missed: int) -> None:
        super().__init__(missed)
        self.missed = missed

    def __str__(self) -> str:
        return (
            f"this reader lags too far: {self.missed} items are no longer kept; "
            "give more max_items, or read faster"
        )


class LostProducerError(StreamError):
    """Who wrote this run into its log died without a word: no sign of life came for as
    long as its lease says. What was written stands; nobody will write more.

    Attributes:
        run_id: The run.
        seconds: How long the lease was.
    """

    __match_args__ = ("run_id", "seconds")

    def __init__(self, run_id: str, seconds: float) -> None:
        super().__init__(run_id, seconds)
        self.run_id = run_id
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"the producer of the run {self.run_id!r} is lost: "
            f"no sign of life for {self.seconds:g} s"
        )


# --- errors of what a server sent --------------------------------------------------


_KINDS: dict[int, type[StatusError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    429: RateLimitError,
}


def refusal(status: int, headers: Mapping[str, str], body: str, url: str | None) -> StatusError:
    """Returns the error of an answer with this status."""
    return _KINDS.get(status, StatusError)(status, headers, body, url)


def reported_error(data: str, event: str = "message") -> ReportedError | None:
    """Returns the error that an event reports, or None if it reports none."""
    report = report_in_event(data, event)
    return None if report is None else ReportedError(report.message or "", report.type, report.code)


def redacted(error: E, secret: str) -> E:
    """The same error without a secret in it: services quote the key that they refuse,
    and an error's text ends in a log.

    An error that is not ours stays as it is; where it is the cause of one and shows the
    secret, it is cut off. What is shorter than a key of any service is none, and would
    be found in every other word.
    """
    if len(secret) < _SHORTEST_KEY or not isinstance(error, MistralError):
        return error
    for name, value in vars(error).items():
        setattr(error, name, _without(secret, value))
    error.args = tuple(_without(secret, value) for value in error.args)
    if any(secret in repr(cause) for cause in _causes(error)):
        error.__cause__ = error.__context__ = None
    return error


def _without(secret: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(secret, "[key]")
    if isinstance(value, Mapping):
        return type(value)((name, _without(secret, each)) for name, each in value.items())  # type: ignore[call-arg]
    return value


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:  # 520, 529: not in the registry, but on the wire
        return str(status)
