"""The errors of this library, as one tree.

    MistralError                  everything that this library raises on purpose
    ├── RequestError              no answer arrived; nothing was emitted; may be repeated
    │   └── RequestTimeoutError     ... in time; also a builtin TimeoutError
    ├── StatusError               the service refused: .status .headers .body .message .type .code .url
    │   ├── AuthenticationError     401, 403: the key was not accepted
    │   └── RateLimitError          429: .retry_after
    ├── BusyError                 the conversation is still answering another prompt
    ├── AllFailedError            none of several streams returned an answer: .errors
    ├── InvalidAnswerError        the answer is whole, but not of the requested type: .type .reason .text
    ├── RoundLimitError           the model still calls tools in the last round: .messages .max_rounds
    ├── GuardError                the text matched a forbidden pattern: .position
    ├── LogError                  a log could not store or read a run: .reason
    │   ├── LogUnavailableError     its broker was unreachable for too long: .seconds
    │   ├── UnknownRunError         it does not contain the run: .run_id
    │   └── FencedError             another producer writes the run: .run_id
    └── StreamError               the answer began and then broke; what was emitted stands: .partial
        ├── ProtocolError           the body is not an event stream, or one event is too large
        ├── ChunkError              an event contains broken JSON instead of a chunk: .data .reason
        ├── ReportedError           the service reported an error inside the stream: .message .type .code
        ├── StreamTimeoutError      a timeout expired: .clock .seconds; also a TimeoutError
        ├── DroppedStreamError      the connection broke: .reason
        ├── IncompleteStreamError   the answer ended with neither a finish_reason nor [DONE]
        ├── StoppedError            the answer was stopped for all its readers
        ├── LaggedError             this reader was too slow, or subscribed too late: .missed
        └── LostProducerError       the producer of a run died before its end: .run_id .seconds

The first split answers two questions of the program that catches an error: may the request be
repeated, and is what was received still good? Calling the library wrongly raises a builtin
`ValueError` or `TypeError` at the call, before anything is sent.

Every error chains its cause, can be pickled and copied (without the cause), and builds its text
from its attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

from .error_report import (
    excerpt,
    page_text,
    read_report,
    report_in_event,
    retry_after_seconds,
    status_line,
    with_upstream_message,
    without_secrets,
)

if TYPE_CHECKING:  # only the types of attributes
    from .models import ChatCompletionResponse, Message

__all__ = [
    "AllFailedError", "AuthenticationError", "BusyError", "ChunkError", "DroppedStreamError", "FencedError",
    "GuardError", "IncompleteStreamError", "InvalidAnswerError", "LaggedError", "LogError",
    "LogUnavailableError", "LostProducerError", "MistralError", "ProtocolError", "RateLimitError",
    "ReportedError", "RequestError", "RequestTimeoutError", "RoundLimitError", "StatusError",
    "StoppedError", "StreamError", "StreamTimeoutError", "UnknownRunError",
]  # fmt: skip

E = TypeVar("E", bound=BaseException)


class MistralError(Exception):
    """The base of every error that this library raises on purpose; never raised itself.

    A `ValueError` or `TypeError` about the arguments of a call is not a MistralError.
    """

    _text = ""  # a format string for the text, applied to the error; "": that of the arguments
    __match_args__: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # BaseException pickles, copies and shows `args`. OSError and keyword arguments leave
        # it incomplete. Defaults at the end, which are attributes of the class, are left out.
        names = list(self.__match_args__)
        while names and getattr(self, names[-1]) is getattr(type(self), names[-1], self):
            names.pop()
        self.args = tuple(getattr(self, name) for name in names)

    def __str__(self) -> str:
        return self._text.format(self) if self._text else super().__str__()


@dataclass_transform(eq_default=False, field_specifiers=(field,))
def _fields(kind: type[E]) -> type[E]:
    """Makes an error's fields its attributes, constructor parameters and `__match_args__`."""
    dataclass(eq=False, repr=False)(kind)  # hashable, and shown as BaseException shows it
    # msgspec would encode a dataclass, whereas an error among the items of a run is a mistake.
    del kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind


@_fields
class RequestError(MistralError):
    """No answer arrived: no connection to the host, or one that broke before the headers.

    Nothing was emitted. It is not known whether the service received the request. Repeating it
    is safe for the text, but may cost a second generation.

    Attributes:
        reason: What went wrong.
        host: The host of the URL, with its port if the URL has one; None if there is no host.
        proxy: The host and port of the proxy in between; None if there is none.
        is_permanent: Whether the same request would fail again: the host name is unknown, the
            certificate is not trusted, the URL is not valid. `Retry` does not repeat it.
    """

    reason: str
    host: str | None = None
    proxy: str | None = None
    is_permanent: bool = False

    def __str__(self) -> str:
        host = f" from {self.host}" if self.host else ""
        proxy = f" through the proxy {self.proxy}" if self.proxy else ""
        return f"no answer{host}{proxy}: {self.reason}"


class RequestTimeoutError(RequestError, TimeoutError):
    """No answer arrived in time; a silence after an answer began is a `StreamTimeoutError`.

    Attributes:
        clock: The timeout that expired: "connect", "first", "gap" or "total", as in `Timeouts`.
        seconds: The length of that timeout.
    """

    # Without @_fields: `clock` and `seconds` replace the first field of RequestError.
    __match_args__ = ("clock", "seconds", "host", "proxy")  # pyright: ignore[reportAssignmentType]

    def __init__(
        self, clock: str, seconds: float, host: str | None = None, proxy: str | None = None
    ) -> None:
        self.clock, self.seconds = clock, seconds
        awaited = {"connect": "a connection", "total": "an answer"}
        waited = f"waited {seconds:g} s for {awaited.get(clock, 'the headers of the answer')}"
        super().__init__(_expired(clock, waited), host, proxy)


def _expired(clock: str, waited: str) -> str:
    return f"the {clock} timeout expired: {waited}; allow more in Timeouts({clock}=...)"


@_fields
class StatusError(MistralError):
    """The service refused: it answered with a status that is not a success.

    Nothing was emitted. A request that was refused with 429 or 5xx may be repeated after a
    while (see `retry_after`); with any other status it will be refused again.

    Attributes:
        status: The status code.
        headers: The headers of the answer; keys are found in any case.
        body: The body as text, at most 1 MiB of it.
        url: The URL of the request, without credentials and query; None if it is not known.
        message: The message of the service, in whatever shape it was sent; the title or text
            of an HTML page; otherwise the beginning of the body.
        type: The kind of error in the service's words, or None.
        code: The service's error code as a string, or None.
    """

    status: int
    headers: Mapping[str, str]
    body: str
    url: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        message, self.type, self.code = read_report(self.body)
        self.message = message or excerpt(page_text(self.body))

    def __str__(self) -> str:
        message = excerpt(with_upstream_message(self.message, self.body)) or "(an empty body)"
        asked = f" (asked {self.url})" if self.url else ""
        status = status_line(self.status)
        return f"the service refused with status {status}: {message}{asked}{self._remedy()}"

    @property
    def retry_after(self) -> float | None:
        """Seconds that the service asks to wait before the next request, or None."""
        return retry_after_seconds(self.headers)

    def _remedy(self) -> str:
        location = self.headers.get("Location") if 300 <= self.status < 400 else None
        if location:
            return f"; it redirects to {without_secrets(location)!r}, which was not followed"
        remedy = _REMEDIES.get(self.status, _TRY_LATER if self.status >= 500 else "")
        return remedy and f"; {remedy}"


class AuthenticationError(StatusError):
    """The service did not accept the key, or the key may not do this: status 401 or 403."""


class RateLimitError(StatusError):
    """Too many requests, or too many tokens: status 429. `retry_after` is how long to wait."""


_TRY_LATER = "try again later, as Retry does"
_REMEDIES = {
    401: "check the API key",
    403: "check the permissions of the API key",
    404: "check server_url and model",
    405: "check server_url",
    407: "check the credentials of the proxy",
    413: "send a smaller request",
    429: _TRY_LATER,
}
_CLASSES = {401: AuthenticationError, 403: AuthenticationError, 429: RateLimitError}


def refusal(status: int, headers: Mapping[str, str], body: str, url: str | None) -> StatusError:
    """Returns the error for an answer with this status."""
    return _CLASSES.get(status, StatusError)(status, headers, body, url)


class AllFailedError(MistralError):
    """None of the streams passed to `fallback` or `hedge` returned an answer.

    Nothing was emitted. `errors` contains the error of each stream, in the order of the streams.

    This is not an `ExceptionGroup`, because it is one failure with several reasons: `except
    MistralError` must catch it, and an `except*` that handles one of the reasons would raise
    the others again.
    """

    __match_args__ = ("errors",)

    def __init__(self, errors: Iterable[Exception]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        reasons = (excerpt(str(error)) or type(error).__name__ for error in self.errors)
        listed = "; ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))
        count = len(self.errors)
        which = f"none of {count} streams" if count > 1 else "the only stream"
        verb = "returned an" if count > 1 else "returned no"
        return f"{which} {verb} answer: {listed}"


class BusyError(MistralError):
    """The conversation is still answering another prompt, and `when_busy` is "refuse".

    Nothing was sent, and the history did not change. The prompt can be asked again.
    """

    _text = 'the conversation is still answering another prompt; when_busy="queue" waits for it'


@_fields
class InvalidAnswerError(MistralError):
    """The answer ended as it should, but its text is not JSON of the requested type.

    A broken answer is a `StreamError` instead. Most often, the answer was cut short, with the
    finish_reason "length" (allow more `max_tokens`), or the request did not ask for this JSON
    (pass the type as `response_format`).

    Attributes:
        type: The name of the requested type.
        reason: What is wrong and where, in msgspec's words: the path `$.steps[0]` is the
            first of the steps.
        text: The text; if an array is read item by item, the text of the item.
    """

    type: str
    reason: str
    text: str

    def __str__(self) -> str:
        text = excerpt(self.text) or "(no text)"
        return f"the answer is not JSON of the type {self.type} ({self.reason}): {text}"


@_fields
class RoundLimitError(MistralError):
    """The model still called tools in the last round that `max_rounds` allows.

    These calls did not run, and are answered so: the messages can be sent again as they are.

    Attributes:
        messages: The whole history, with the round that was the last one.
        max_rounds: The number of requests that were allowed.
    """

    _text = (
        "the model still called tools in round {0.max_rounds}, the last one allowed; "
        "increase max_rounds, or send the messages of this error again"
    )

    messages: list[Message | Mapping[str, Any]] = field(repr=False)
    max_rounds: int


@_fields
class GuardError(MistralError):
    """The text matched a pattern of `guarded(on_match="stop")`, which cancelled the answer.

    The text before the match was emitted and stands; `position` is where the match begins, in
    characters. Neither the emitted text nor this error contains any of the match. It is not
    a fault of the service or of the connection. Another request returns another answer, which
    may match again.
    """

    position: int
    _text = "the text was stopped before a match at character {0.position}"


@_fields
class LogError(MistralError):
    """A log of answers could not store what `to_log` writes, or read what `from_log` asks for.

    Raised itself if the broker refuses; `reason` is then the broker's message. The answer is
    not affected: the program that runs it receives all of it, and this error in place of the
    completion.
    """

    reason: str
    _text = "the log failed: {0.reason}"


@_fields
class LogUnavailableError(LogError):
    """The broker of a log was unreachable for `seconds`, longer than the log tolerates.

    `reason` is the failure of the last attempt. Items that were written before are still there
    when the broker returns.
    """

    reason: str
    seconds: float
    _text = "the log was unavailable for {0.seconds:g} s: {0.reason}"


@_fields
class UnknownRunError(LogError):
    """The log has no run with the id `run_id`: it has not begun yet, or it has expired."""

    reason: str = field(init=False, default="not begun yet, or expired")
    run_id: str
    _text = "the log does not contain the run {0.run_id!r}: {0.reason}"


@_fields
class FencedError(LogError):
    """Another producer writes the run with the id `run_id`, or has ended it.

    This producer is fenced out: nothing that it writes from then on is in the log.
    """

    reason: str = field(init=False, default="the items of this producer are no longer kept")
    run_id: str
    _text = "another producer writes the run {0.run_id!r}: {0.reason}"


class StreamError(MistralError):
    """The answer began and then broke; what was emitted before stands. Never raised itself.

    Repeating the request returns another answer, not the rest of this one. `Resume` asks for
    the rest.

    Attributes:
        partial: The response as far as it was received: text, thinking, complete tool calls,
            and an `UnfinishedToolCall` for each call that may be incomplete. None if no
            completion was decoded, as in a pipe of lines or events.
    """

    partial: ChatCompletionResponse | None = None


@_fields
class ProtocolError(StreamError):
    """The body of the answer is not an event stream, or one event is larger than allowed.

    Usually, `server_url` is wrong, or a proxy answered in place of the service. `reason` is what
    is wrong; `body` is the beginning of the body, or None for an event that is too large.
    """

    reason: str
    body: str | None = None

    def __str__(self) -> str:
        if self.body is None:
            return self.reason
        return f"{self.reason}: {excerpt(page_text(self.body)) or '(an empty body)'}"


@_fields
class ChunkError(StreamError):
    """An event does not contain a completion chunk: its `data` is a broken JSON object.

    `reason` is what is wrong and where, in the words of the JSON parser.
    """

    data: str
    reason: str

    def __str__(self) -> str:
        return f"an event does not contain a chunk ({self.reason}): {excerpt(self.data)}"


@_fields
class ReportedError(StreamError):
    """The service reported an error inside a stream that had begun with a status of success.

    A refusal, which has a status of its own, is a `StatusError` instead.

    Attributes:
        message: The message of the service.
        type: The kind of error in the service's words, or None.
        code: The service's error code as a string, or None.
    """

    message: str
    type: str | None = None
    code: str | None = None

    def __str__(self) -> str:
        message = excerpt(self.message) or "(without a message)"
        kind = ", ".join(filter(None, (self.type, self.code and f"code {self.code}")))
        return f"the service reported an error: {message}" + (f" ({kind})" if kind else "")


def reported_error(data: str, event: str = "message") -> ReportedError | None:
    """Returns the error that an event reports, or None if it does not report one."""
    report = report_in_event(data, event)
    return None if report is None else ReportedError(report.message or "", report.type, report.code)


@_fields
class StreamTimeoutError(StreamError, TimeoutError):
    """A timeout expired in the middle of an answer: nothing useful arrived for too long.

    Comments and empty deltas are not useful. The time that the subscriber spends on an item
    does not count.

    Attributes:
        clock: The timeout of `Timeouts` that expired: "first", "gap", "thinking_gap" or "total".
        seconds: The length of that timeout.
    """

    clock: str
    seconds: float

    def __str__(self) -> str:
        is_total = self.clock == "total"
        waited = "the answer took more than" if is_total else "nothing useful arrived for"
        return _expired(self.clock, f"{waited} {self.seconds:g} s")


@_fields
class DroppedStreamError(StreamError):
    """The connection broke in the middle of an answer; `reason` is what happened to it.

    An answer that ended too early, but cleanly, is an `IncompleteStreamError` instead.
    """

    reason: str
    _text = "the connection broke in the middle of the answer: {0.reason}"


@_fields
class IncompleteStreamError(StreamError):
    """The answer ended cleanly, but with neither a finish_reason nor `[DONE]`.

    Something between the model and this program may have cut it short. If a server never
    sends either, pass `accept_clean_end=True`.

    Attributes:
        reason: Why this is incomplete all the same: nothing was received, or the body ended
            inside an event. None if it may be the end of an answer.
    """

    reason: str | None = None

    def __str__(self) -> str:
        if self.reason is not None:
            return f"the answer is incomplete: {self.reason}"
        return (
            "the answer may be cut short: it ended with neither a finish_reason nor [DONE]; "
            "accept_clean_end=True accepts such an end"
        )


class StoppedError(StreamError):
    """The answer was stopped for all its readers, by `stop()` or after `linger` without a reader.

    A reader that leaves alone, by `dispose()` or `break`, does not receive this error. `close()`
    ends loops and subscriptions without it, but for those of an operator, such as `merge`.
    """

    _text = "the answer was stopped, for all its readers"
    drops_held_items = False  # whether operators drop what they hold, instead of emitting it first


@_fields
class LaggedError(StreamError):
    """This reader was too slow, or subscribed too late: its next item is no longer kept.

    It cannot receive `missed` items. The answer continues for its other readers. Increase
    `max_items`, or choose another policy for slow readers.
    """

    missed: int
    _text = (
        "this reader lags too far: {0.missed} items are no longer kept; "
        "increase max_items, or read faster"
    )


@_fields
class LostProducerError(StreamError):
    """The producer of the run `run_id` died before it wrote the run's end into the log.

    It gave no sign of life for `seconds`, the length of its lease. The items that it wrote
    stand; no others will follow.
    """

    run_id: str
    seconds: float
    _text = "the producer of the run {0.run_id!r} is lost: no sign of life for {0.seconds:g} s"


def described(error: Exception) -> str:
    """Returns the description of an error for a browser or a log, on one line.

    For a `MistralError` that is its text, which quotes the service but never contains a key.
    The text of any other error may contain details of the program, and is not sent.

    >>> described(DroppedStreamError("reset by peer"))
    'the connection broke in the middle of the answer: reset by peer'
    >>> described(KeyError("password"))
    'internal error'
    """
    return excerpt(str(error)) if isinstance(error, MistralError) else "internal error"


# --- keys in errors --------------------------------------------------------------

# A shorter secret is not the key of any service, and would be found in ordinary words.
_MIN_KEY_LENGTH = 8


def redacted(error: E, secret: str) -> E:
    """Returns the error without a secret in its text and attributes.

    Services quote the key that they refuse, and the text of an error ends up in a log. The
    error is changed in place. An error that is not a `MistralError` stays as it is; as the
    cause of one, it is removed if it shows the secret.
    """
    if len(secret) < _MIN_KEY_LENGTH or not isinstance(error, MistralError):
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
