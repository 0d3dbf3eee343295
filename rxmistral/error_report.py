"""What servers write into an error body, and what of it an error may show.

One service words an error in half a dozen shapes, and the gateways in front of it
add theirs. All of them nest the same few words, so one walk finds them all:

  {"detail": "Unauthorized"}                          {"message": "rate limit exceeded"}
  {"detail": [{"type", "loc", "msg", "input"}]}       {"error": "text"}
  {"object": "error", "message": "...", "type", "code"}
  {"object": "error", "message": {"detail": [...]}}   {"error": {"message", "type", "code"}}
  {"code": 500, "msg": "..."}                         {"errors": [{"message": "..."}]}
  {"error": {"message": "Provider returned error", "metadata": {"raw": "..."}}}

The outermost words are those of the service itself; the inner ones, which may be those of
another that it asked, fill the gaps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import unescape
from typing import Any, NamedTuple

__all__ = [
    "ErrorReport",
    "excerpt",
    "join_surrogates",
    "page_text",
    "read_report",
    "report_in_event",
    "with_upstream_message",
    "without_credentials",
    "without_secrets",
]


_EXCERPT = 500  # characters of a body or an event that an error's text shows


_NESTING = ("message", "error", "errors", "detail", "msg")


class ErrorReport(NamedTuple):
    """An error in the service's words; each is None where it said nothing."""

    message: str | None = None
    type: str | None = None
    code: str | None = None


def read_report(text: str) -> ErrorReport:
    """The words of an error in a body or an event's data, whatever its shape."""
    return _report(_decoded(text))


def report_in_event(data: str, event: str) -> ErrorReport | None:
    """Returns the error that an event reports, or None if it reports none.

    An error is an event of the type "error", `{"object": "error", ...}`, anything under
    a key `error` or `errors`, or an object that is not a chunk but has a `detail` or a message.
    """
    value = _decoded(data)
    if event != "error" and not _is_error(value):
        return None
    report = _report(value)
    return report._replace(message=_with_cause(report.message or excerpt(data), value))


def with_upstream_message(message: str, body: str) -> str:
    """Returns a gateway's message with that of the service behind it, if the body quotes one."""
    return _with_cause(message, _decoded(body))


def _is_error(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    if value.get("object") == "error" or value.get("error"):
        return True
    if "choices" in value:
        return False
    said = value.get("message"), value.get("msg")
    succeeded = value.get("code") in (0, 200)  # `{"code": 0, "msg": "ok"}`
    return bool(value.get("errors") or value.get("detail")) or (
        not succeeded and any(isinstance(each, str) for each in said)
    )


def _with_cause(message: str, value: Any) -> str:
    """A gateway's message, and what the service behind it said, if it passes that on."""
    while isinstance(value, dict):
        metadata = value.get("metadata")
        cause = _raw(metadata.get("raw")) if isinstance(metadata, dict) else None
        if cause and cause not in message:
            return f"{message}: {cause}"
        value = value.get("error")
    return message


_CREDENTIALS = re.compile(r"(?:(?<=//)|^(?!\S*//))[^\s'\"]*@")


def without_credentials(text: str) -> str:
    """Returns a text, or its beginning, without the user names and passwords of its URLs."""
    return _CREDENTIALS.sub("", text[: 4 * _EXCERPT])


def without_secrets(url: str) -> str:
    """Returns a URL without user name, password, query and fragment."""
    return re.split(r"[?#]", without_credentials(url), maxsplit=1)[0]


_PAGE_BEGINNING = 20_000  # characters of an HTML page that are searched for its text


_INVISIBLE = re.compile(
    r"<(script|style|title)\b.*?(</\1[^<>]*>|\Z)|<!--.*?(-->|\Z)|<[^<>]*>", re.S | re.I
)


def page_text(body: str) -> str:
    """Returns the title of an HTML page, or its text; any other body as it is."""
    page = body[:_PAGE_BEGINNING].lstrip("\ufeff \t\r\n")
    if page[:1] != "<":
        return body
    title = re.search(r"<title[^<>]*>([^<]*)", page, re.I)
    texts = (title[1] if title else "", _INVISIBLE.sub(" ", page))
    return next((text for text in map(unescape, texts) if text.strip()), body)


def excerpt(text: str) -> str:
    """The beginning of a text, on one line."""
    begin = text[: 4 * _EXCERPT]
    line = " ".join(begin.split())
    if len(line) <= _EXCERPT and len(begin) == len(text):
        return line
    return line[:_EXCERPT] + "..."


def join_surrogates(text: str) -> str:
    """A text with its surrogate pairs joined; a lone one becomes U+FFFD, as it would in
    any decoder."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _decoded(text: str) -> object:
    # Not strict: an error that quotes its input may hold raw control characters.
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _report(value: object) -> ErrorReport:
    try:
        return _walk(value)
    except RecursionError:
        return ErrorReport()


def _walk(value: Any) -> ErrorReport:
    if isinstance(value, str):
        return ErrorReport(join_surrogates(value) or None)
    if isinstance(value, list):
        return _walk_problems(value)
    if not isinstance(value, dict):
        return ErrorReport()
    own = _words(value)
    nested = (value.get(key) for key in _NESTING)
    inner = _first(_walk(each) for each in nested if isinstance(each, (dict, list)))
    return ErrorReport(*(mine or theirs for mine, theirs in zip(own, inner, strict=True)))


def _words(value: dict[str, Any]) -> ErrorReport:
    """What an object says of itself, but for what is nested in it."""
    message = next((_word(value[key]) for key in _NESTING if _word(value.get(key))), None)
    kind = _word(value.get("type"))
    return ErrorReport(message, None if kind == "error" else kind, _code(value))  # not just "error"


def _raw(raw: object) -> str | None:
    """What a service said: text, JSON, or JSON in a text."""
    said = read_report(raw) if isinstance(raw, str) else _report(raw)
    return said.message or _word(raw)


def _walk_problems(problems: list[Any]) -> ErrorReport:
    """What FastAPI's validation says: one problem an item, each with its place."""
    reports = [_walk(problem) for problem in problems]
    places = map(_place, problems)
    said = [place + (report.message or "") for place, report in zip(places, reports, strict=True)]
    first = _first(reports)
    return ErrorReport("; ".join(filter(None, said)) or None, first.type, first.code)


def _place(problem: Any) -> str:
    place = problem.get("loc") if isinstance(problem, dict) else None
    return join_surrogates(".".join(map(str, place))) + ": " if isinstance(place, list) else ""


def _first(reports: Iterable[ErrorReport]) -> ErrorReport:
    seen = [report for report in reports if any(report)]
    return next((report for report in seen if report.message), seen[0] if seen else ErrorReport())


def _code(value: dict[str, Any]) -> str | None:
    code = value.get("code")
    return None if code is None or isinstance(code, (dict, list)) else join_surrogates(str(code))


def _word(value: object) -> str | None:
    return join_surrogates(value) if isinstance(value, str) else None
