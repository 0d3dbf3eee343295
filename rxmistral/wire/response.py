"""What a response is: a refusal, an event stream, or something else; and how its body is read.

status other than 2xx                      StatusError, with the body
a compression that urllib3 lacks           ProtocolError
a body that is not an event stream         ProtocolError, with the body
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from io import BytesIO
from typing import Any

from requests import Response
from urllib3 import BaseHTTPResponse, HTTPResponse
from urllib3.exceptions import DecodeError, HTTPError, ReadTimeoutError

from ..error_report import without_secrets
from ..errors import (
    DroppedStreamError,
    MistralError,
    ProtocolError,
    StatusError,
    StreamTimeoutError,
    refusal,
    reported_error,
)
from .idle_timeout import IdleTimeout
from .request_errors import reason_of

__all__ = ["BLOCK_BYTES", "ResponseBody", "is_uncompressed", "read_head"]

if not hasattr(HTTPResponse, "read1"):  # requests itself still accepts urllib3 1.26
    raise ImportError("rxmistral needs urllib3 2.2 or newer: pip install -U urllib3")

BLOCK_BYTES = 64 * 1024
"""The most that is read at once, in bytes."""

_MAX_SHOWN_BYTES = 1024 * 1024  # of a body that is shown in an error


# --- the body --------------------------------------------------------------------


class ResponseBody:
    """The decompressed body of a response, whose reads raise our errors."""

    def __init__(self, response: Response, idle_timeout: IdleTimeout) -> None:
        # The `raw` of an adapter that is not urllib3's may be any file, or None; and a hook of
        # the session may have read the body already, which only a private name tells.
        is_read = isinstance(response._content, bytes)
        raw: Any = BytesIO(response.content) if is_read else response.raw or BytesIO()
        self._read: Callable[[int], bytes] = getattr(raw, "read1", None) or raw.read
        if "Content-Encoding" in response.headers and isinstance(raw, BaseHTTPResponse):
            # Others, such as vcrpy's, lack this argument, and have decompressed the body.
            self._read = partial(raw.read1, decode_content=True)
        self._idle_timeout = idle_timeout

    def read(self) -> bytes:
        """Returns the next bytes as soon as there are any; b"" at the end of the body."""
        self._idle_timeout.start_wait()
        try:
            return self._read(BLOCK_BYTES)
        except ReadTimeoutError as error:
            raise StreamTimeoutError(*self._idle_timeout.expired()) from error
        except DecodeError as error:
            raise ProtocolError(
                f"the body cannot be decompressed: {error}; it does not match its Content-Encoding"
            ) from error
        except (HTTPError, HTTPException, OSError, ValueError, AttributeError) as error:
            # http.client and ssl raise ValueError and AttributeError on a socket that is shut
            # down during the read.
            raise DroppedStreamError(reason_of(error)) from error
        finally:
            self._idle_timeout.end_wait()

    def read_up_to(self, limit: int, head: bytes = b"") -> bytes:
        """Returns the rest of the body after `head`, or what arrived of it before it broke.

        Args:
            limit: The most to return, in bytes.
            head: What was read before.
        """
        blocks = [head]
        size = len(head)
        with suppress(MistralError):  # a refusal whose body breaks is still a refusal
            while size < limit and (block := self.read()):
                blocks.append(block)
                size += len(block)
        return b"".join(blocks)[:limit]


def is_uncompressed(response: Response) -> bool:
    """Returns whether the socket of a response delivers its body, apart from the framing."""
    return type(response.raw) is HTTPResponse and not any(
        encoding in HTTPResponse.CONTENT_DECODERS for encoding in _encodings(response)
    )


# --- the verdict -----------------------------------------------------------------


def read_head(response: Response, body: ResponseBody) -> bytes:
    """Returns the first bytes of a body that is an event stream.

    Several servers label their streams text/plain or not at all. Proxies answer 200 with a page
    of their own, or with a line of text that has the label of the stream that it replaces.
    So the first bytes decide. A labelled body may begin with lines that WHATWG HTML 9.2.6
    ignores, so it is read up to the first line with a meaning.

    Raises:
        StatusError: The status is not 2xx.
        ProtocolError: The body is not an event stream, or cannot be decompressed.
    """
    if not 200 <= response.status_code < 300:
        raise _status_error(response, body)
    _check_encodings(response)
    is_labelled = _media_type(response) == "text/event-stream"
    is_stream = _is_labelled_stream if is_labelled else _is_unlabelled_stream
    head = b""
    while block := body.read():
        head += block
        begin = head.removeprefix(_BOM).lstrip()
        verdict = None if _BOM.startswith(head) else is_stream(begin)
        if verdict:
            return head
        if verdict is False or len(head) > _MAX_SHOWN_BYTES:
            break
    if not head.strip() or (is_labelled and _is_error_line(head.strip())):
        return head
    raise _not_an_event_stream(response, body, head)


def _status_error(response: Response, body: ResponseBody) -> StatusError:
    text = _decode(body.read_up_to(_MAX_SHOWN_BYTES), response)
    url = without_secrets(response.url or "")
    return refusal(response.status_code, response.headers, text, url)


def _not_an_event_stream(response: Response, body: ResponseBody, head: bytes) -> ProtocolError:
    label = response.headers.get("Content-Type", "no content type")
    if "Content-Encoding" in response.headers:
        label += f", Content-Encoding {response.headers['Content-Encoding']}"
    text = _decode(body.read_up_to(_MAX_SHOWN_BYTES, head), response)
    return ProtocolError(f"the answer is not an event stream ({label})", text)


_FIELD = rb"(?:(?:data|event|id|retry)?:|(?:data|event|id|retry)[\r\n])"
_FIELD_AT_BEGIN = re.compile(_FIELD)
_LINE_WITH_FIELD = re.compile(rb"(?:^|[\r\n])" + _FIELD)
_FIELD_NAMES = (b"data:", b"event:", b"id:", b"retry:", b":")
_BOM = b"\xef\xbb\xbf"


def _is_unlabelled_stream(begin: bytes) -> bool | None:
    """Returns the verdict on the beginning of a body, or None if it is too short for one."""
    if _FIELD_AT_BEGIN.match(begin):
        return True
    return None if any(name.startswith(begin) for name in _FIELD_NAMES) else False


def _is_labelled_stream(begin: bytes) -> bool | None:
    """Returns the verdict on the beginning of a body, or None if it is too short for one."""
    if begin[:1] == b"<":
        return False
    line, end, _ = begin.partition(b"\n")
    return bool(_LINE_WITH_FIELD.search(begin) or (end and _is_error_line(line))) or None


def _is_error_line(line: bytes) -> bool:
    """Returns whether a server wrote this as a bare line of JSON to report an error."""
    return (
        line[:1] == b"{"
        and b"\n" not in line
        and reported_error(line.decode("utf-8", "replace")) is not None
    )


# --- its headers -----------------------------------------------------------------

_COMPRESSIONS = ("br", "compress", "dcb", "dcz", "x-compress", "zstd")  # IANA's, except gzip


def _check_encodings(response: Response) -> None:
    """Raises for a compression that urllib3 cannot decompress, and would pass on unchanged.

    Anything else is not a compression: several servers label a plain stream "none" or "utf-8".
    The first bytes of such a body decide.
    """
    for encoding in _encodings(response):
        if encoding in _COMPRESSIONS and encoding not in HTTPResponse.CONTENT_DECODERS:
            raise ProtocolError(
                f"the body cannot be decompressed here: it is compressed with {encoding!r}; "
                f"ask for identity or gzip, or install urllib3[{encoding}]"
            )


def _encodings(response: Response) -> list[str]:
    encodings = response.headers.get("Content-Encoding", "").lower().split(",")
    return [encoding.strip() for encoding in encodings]


def _media_type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _decode(body: bytes, response: Response) -> str:
    """Returns a body as text: UTF-8, if it is valid; requests would assume Latin-1."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        with suppress(LookupError):  # an unknown charset
            return body.decode(response.encoding or "utf-8", "replace")
        return body.decode("utf-8", "replace")
