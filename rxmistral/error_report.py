"""What servers send with an error, and what of it the text of an error may show.

One service writes its errors in half a dozen shapes, and the gateways in front of it add their
own. All of them nest the same few keys, so one recursive search reads them all:

  {"detail": "Unauthorized"}                          {"message": "rate limit exceeded"}
  {"detail": [{"type", "loc", "msg", "input"}]}       {"error": "text"}
  {"object": "error", "message": "...", "type", "code"}
  {"object": "error", "message": {"detail": [...]}}   {"error": {"message", "type", "code"}}
  {"code": 500, "msg": "..."}                         {"errors": [{"message": "..."}]}
  {"error": {"message": "Provider returned error", "metadata": {"raw": "..."}}}

The outermost values are those of the service itself. Inner ones, which may be those of another
service behind it, fill the gaps.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from html import unescape
from http.client import responses
from typing import Any, NamedTuple

__all__ = [
    "ErrorReport", "excerpt", "join_surrogates", "page_text", "read_report", "report_in_event",
    "retry_after_seconds", "status_line", "with_upstream_message", "without_credentials",
    "without_secrets",
]  # fmt: skip

_EXCERPT_LENGTH = 500  # characters of a body or an event that the text of an error shows
_PAGE_LENGTH = 20_000  # characters of an HTML page that are searched for its text

_MESSAGE_KEYS = ("message", "error", "errors", "detail", "msg")


class ErrorReport(NamedTuple):
    """An error in the service's words; each field is None if the service did not send it."""

    message: str | None = None
    type: str | None = None
    code: str | None = None


def read_report(text: str) -> ErrorReport:
    """Returns the error in a body, or in the data of an event, whatever its shape."""
    return _report_in(_decode(text))


def report_in_event(data: str, event: str) -> ErrorReport | None:
    """Returns the error that an event reports, or None if it does not report one.

    An error is an event of the type "error", `{"object": "error", ...}`, anything under
    a key `error` or `errors`, or an object that is not a chunk but has a `detail` or a message.
    """
    value = _decode(data)
    if event != "error" and not _is_error(value):
        return None
    report = _report_in(value)
    return report._replace(message=_add_upstream_message(report.message or excerpt(data), value))


def with_upstream_message(message: str, body: str) -> str:
    """Returns a gateway's message, and that of the service behind it if the body quotes one."""
    return _add_upstream_message(message, _decode(body))


def _is_error(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    if value.get("object") == "error" or value.get("error"):
        return True
    if "choices" in value:
        return False
    has_message = any(isinstance(value.get(key), str) for key in ("message", "msg"))
    is_success = value.get("code") in (0, 200)  # `{"code": 0, "msg": "ok"}`
    return bool(value.get("errors") or value.get("detail")) or (has_message and not is_success)


def _add_upstream_message(message: str, value: Any) -> str:
    while isinstance(value, dict):
        metadata = value.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        report = read_report(raw) if isinstance(raw, str) else _report_in(raw)
        upstream = report.message or _text_or_none(raw)  # of JSON, JSON in a text, or a text
        if upstream and upstream not in message:
            return f"{message}: {upstream}"
        value = value.get("error")
    return message


def _decode(text: str) -> object:
    # Not strict: an error that quotes its input may contain raw control characters.
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _report_in(value: object) -> ErrorReport:
    try:
        return _search(value)
    except RecursionError:
        return ErrorReport()


def _search(value: Any) -> ErrorReport:
    if isinstance(value, str):
        return ErrorReport(join_surrogates(value) or None)
    if isinstance(value, list):
        return _search_problems(value)
    if not isinstance(value, dict):
        return ErrorReport()
    own = _own_report(value)
    nested = (value.get(key) for key in _MESSAGE_KEYS)
    inner = _first_with_message(_search(each) for each in nested if isinstance(each, (dict, list)))
    return ErrorReport(*(outer or deeper for outer, deeper in zip(own, inner, strict=True)))


def _own_report(value: dict[str, Any]) -> ErrorReport:
    """Returns what an object reports itself, without the objects nested in it."""
    texts = (_text_or_none(value.get(key)) for key in _MESSAGE_KEYS)
    kind = _text_or_none(value.get("type"))
    if kind == "error":  # an envelope, as in {"type": "error", "error": {...}}
        kind = None
    code = value.get("code")
    is_scalar = code is not None and not isinstance(code, (dict, list))
    shown_code = join_surrogates(str(code)) if is_scalar else None
    return ErrorReport(next(filter(None, texts), None), kind, shown_code)


def _search_problems(problems: list[Any]) -> ErrorReport:
    """Reads the list of problems that FastAPI's validation sends, each with its location."""
    reports = [_search(problem) for problem in problems]
    messages = [
        _location_in(problem) + (report.message or "")
        for problem, report in zip(problems, reports, strict=True)
    ]
    first = _first_with_message(reports)
    return ErrorReport("; ".join(filter(None, messages)) or None, first.type, first.code)


def _location_in(problem: Any) -> str:
    location = problem.get("loc") if isinstance(problem, dict) else None
    if not isinstance(location, list):
        return ""
    return join_surrogates(".".join(map(str, location))) + ": "


def _first_with_message(reports: Iterable[ErrorReport]) -> ErrorReport:
    """Returns the first report with a message, or else the first that is not empty."""
    found = sorted(filter(any, reports), key=lambda report: not report.message)  # stable
    return found[0] if found else ErrorReport()


def _text_or_none(value: object) -> str | None:
    return join_surrogates(value) if isinstance(value, str) else None


def status_line(status: int) -> str:
    """Returns a status code with its phrase, if it has one, such as "404 Not Found"."""
    return f"{status} {responses.get(status, '')}".strip()


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Returns how many seconds the service asks to wait, or None if it does not."""
    milliseconds = _non_negative_number(headers.get("retry-after-ms"))  # more exact
    if milliseconds is not None:
        return milliseconds / 1000
    # RFC 9110, 10.2.3: "The Retry-After field value can be either an HTTP-date or a number of
    # seconds to delay after receiving the response."
    value = headers.get("Retry-After")
    seconds = _non_negative_number(value)
    return _seconds_until(value) if seconds is None else seconds


def _non_negative_number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _seconds_until(date: str | None) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date or "").timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


_CREDENTIALS = re.compile(r"(?:(?<=//)|^(?!\S*//))[^\s'\"]*@")
_INVISIBLE = re.compile(
    r"<(script|style|title)\b.*?(</\1[^<>]*>|\Z)|<!--.*?(-->|\Z)|<[^<>]*>", re.S | re.I
)


def without_credentials(text: str) -> str:
    """Returns the beginning of a text without the user names and passwords of its URLs."""
    return _CREDENTIALS.sub("", text[: 4 * _EXCERPT_LENGTH])


def without_secrets(url: str) -> str:
    """Returns a URL without user name, password, query and fragment."""
    return re.split(r"[?#]", without_credentials(url), maxsplit=1)[0]


def page_text(body: str) -> str:
    """Returns the title of an HTML page, or else its text; any other body unchanged."""
    page = body[:_PAGE_LENGTH].lstrip("\ufeff \t\r\n")
    if page[:1] != "<":
        return body
    title = re.search(r"<title[^<>]*>([^<]*)", page, re.I)
    texts = (title[1] if title else "", _INVISIBLE.sub(" ", page))
    return next((text for text in map(unescape, texts) if text.strip()), body)


def excerpt(text: str) -> str:
    """Returns the beginning of a text on one line, with "..." if it is cut."""
    beginning = text[: 4 * _EXCERPT_LENGTH]
    line = " ".join(beginning.split())
    if len(line) <= _EXCERPT_LENGTH and len(beginning) == len(text):
        return line
    return line[:_EXCERPT_LENGTH] + "..."


# A codec is loaded when it is used first, which fails if no descriptor is left by then.
codecs.lookup("utf-16-le")


def join_surrogates(text: str) -> str:
    """Returns a text with its surrogate pairs joined; a lone surrogate becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
