"""The main job from a shell: ask, and print the answer as it comes.

The answer, and nothing else, goes to stdout; everything about it goes to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TextIO

import msgspec

from .chat.client import Mistral, __version__
from .chat.event_stream import EventStream
from .chat.request import ChatArguments
from .chat.settings import KEY_VARIABLE, SERVER_URL_VARIABLE
from .demo import demo_server
from .errors import MistralError
from .models import CompletionEvent, UsageInfo
from .operators import text

__all__ = ["main"]

_FAILED, _MISUSED, _INTERRUPTED = 1, 2, 130


# What a terminal would obey: ESC, BEL, backspace and the like are shown as their pictures.
# A carriage return is left out: it would let an answer write over what stands before it.
# Each is harmless alone, so it does not matter where a sequence is cut.
_CONTROL_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    ord("\r"): None,
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),  # C1
}


class _UnwritableError(Exception):
    """stdout cannot be written to; the cause says why."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 for an error, 2 for a wrong call, and 130
    when interrupted."""
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except _UnwritableError as error:
        _discard(sys.stdout)
        if isinstance(error.__cause__, BrokenPipeError):  # the reader has enough: `| head -1`
            return 0
        _say(f"rxmistral: stdout cannot be written to: {error}")
        return _FAILED


def _main(arguments: list[str]) -> int:
    if sys.stdout is None:  # closed by the shell, as in `>&-`
        _say("rxmistral: there is no stdout to print to")
        return _MISUSED
    screen = _Screen()
    try:
        _check_text(arguments)
        options = _options(arguments, screen)
        if options.serve is not None:
            return _serve(options.serve, screen)
        with _client(options) as client:
            _print_answer(client, options, screen)
    except KeyboardInterrupt:
        screen.end_line()
        return _INTERRUPTED
    except MistralError as error:
        return _fail(screen, error, _FAILED)
    except (TypeError, ValueError, OSError) as error:
        return _fail(screen, error, _MISUSED)
    return 0


def _options(arguments: list[str], screen: _Screen) -> Namespace:
    parser = _parser()
    printed = StringIO()  # argparse passes over errors of stdout
    try:
        with redirect_stdout(printed):
            options = parser.parse_args(arguments)
    except SystemExit:
        screen.write(printed.getvalue())
        raise
    if options.serve is None and options.prompt is None:
        parser.error("the following arguments are required: prompt")
    if options.serve is not None and options.prompt is not None:
        parser.error("argument --serve: not allowed with a prompt")
    return options


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="rxmistral",
        description="Ask a Mistral model and print the answer as it comes.",
        epilog=f"The key is taken from {KEY_VARIABLE}, the server from --server-url or "
        f"{SERVER_URL_VARIABLE}. If none of them is given, an embedded demo server answers.",
    )
    parser.add_argument("prompt", nargs="?", help="what to ask; - reads it from stdin")
    parser.add_argument("--model", default="mistral-small-latest", help="default: %(default)s")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument("--temperature", type=float, metavar="T")
    parser.add_argument("--max-tokens", type=int, metavar="N")
    parser.add_argument("--server-url", metavar="URL", help="any server that speaks the same")
    parser.add_argument("--json", action="store_true", help="print the chunks, one a line")
    parser.add_argument("--stats", action="store_true", help="print figures even to no terminal")
    parser.add_argument(
        "--serve",
        nargs="?",
        type=_port,
        const=0,
        metavar="PORT",
        help="print the URL of the demo server and run it until Ctrl-C; default: a free port",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _port(word: str) -> int:
    if not word.isdecimal() or int(word) > 65_535:
        raise ArgumentTypeError(f"PORT must be a number from 0 to 65535, got {word!r}")
    return int(word)


def _serve(port: int, screen: _Screen) -> int:
    """Run the demo server in the foreground, until Ctrl-C or SIGTERM."""
    server = demo_server(port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        screen.write(server.start().url + "\n")
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        raise OSError(
            f"cannot serve on port {port}: {error.strerror}; give another port or none"
        ) from error
    finally:
        server.close()


@contextmanager
def _client(options: Namespace) -> Iterator[Mistral]:
    variables = (KEY_VARIABLE, SERVER_URL_VARIABLE)
    if options.server_url or any(os.environ.get(name, "").strip() for name in variables):
        with Mistral(server_url=options.server_url) as client:
            yield client
        return
    _say(f"{KEY_VARIABLE} is not set: the embedded demo server answers.")
    with demo_server() as server, Mistral(server_url=server.url) as client:
        yield client


def _ask(client: Mistral, options: Namespace) -> EventStream:
    prompt = _read_stdin() if options.prompt == "-" else options.prompt
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    messages = [{"role": "user", "content": prompt}]
    if options.system is not None:
        messages.insert(0, {"role": "system", "content": options.system})
    arguments: ChatArguments = {}
    if options.temperature is not None:
        arguments["temperature"] = options.temperature
    if options.max_tokens is not None:
        arguments["max_tokens"] = options.max_tokens
    return client.chat.stream(model=options.model, messages=messages, **arguments)


def _check_text(arguments: list[str]) -> None:
    """Raise for bytes from the shell that are not text: Python decodes each of
    them to half a surrogate pair."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"an argument is not {sys.getfilesystemencoding().upper()} text: "
                f"{os.fsencode(argument)[:60]!r}"
            ) from None


def _read_stdin() -> str:
    if sys.stdin is None:  # closed by the shell, as in `<&-`
        raise ValueError("there is no stdin to read the prompt from")
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="strict")  # in the C locale it would let any byte pass
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"stdin is not {error.encoding.upper()} text: it has the byte 0x{byte:02x}"
        ) from error


def _print_answer(client: Mistral, options: Namespace, screen: _Screen) -> None:
    figures = _Figures()
    counted = _ask(client, options).do_action(figures.count)
    if options.json:
        for event in counted:
            screen.write(msgspec.json.encode(event.data).decode() + "\n")
    else:
        for token in counted.pipe(text()):
            screen.write(token)
        screen.end_line()
    if options.stats or _is_terminal(sys.stderr):
        _say(str(figures))


def _fail(screen: _Screen, error: Exception, code: int) -> int:
    screen.end_line()
    _say(f"rxmistral: {' '.join(str(error).split())}")
    return code


def _say(line: str) -> None:
    """Print to stderr, if there is one."""
    if sys.stderr is None:
        return
    try:
        print(_shown(line, sys.stderr), file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _shown(text: str, stream: TextIO) -> str:
    return text.translate(_CONTROL_PICTURES) if _is_terminal(stream) else text


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _discard(stream: TextIO) -> None:
    """Have what is left in the stream's buffer go nowhere; it would fail again at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Screen:
    """stdout, and whether its last line is ended."""

    def __init__(self) -> None:
        self._in_line = False
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that knows no emoji is no error

    def write(self, piece: str) -> None:
        self._in_line = not piece.endswith("\n")  # first: Ctrl-C may come in between
        try:
            sys.stdout.write(_shown(piece, sys.stdout))
            sys.stdout.flush()
        except OSError as error:
            raise _UnwritableError(error.strerror) from error

    def end_line(self) -> None:
        if self._in_line:
            self.write("\n")


class _Figures:
    """How much came, and how fast."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._first: float | None = None
        self._last = self._started
        self._chunks = 0
        self._usage: UsageInfo | None = None

    def count(self, event: CompletionEvent) -> None:
        self._usage = event.data.usage or self._usage
        if any(choice.delta.content for choice in event.data.choices):
            self._chunks += 1
            self._last = time.perf_counter()
            self._first = self._first or self._last

    def __str__(self) -> str:
        if self._first is None:
            return "no tokens"
        exact = self._usage.completion_tokens if self._usage else None
        amount = f"{exact} tokens" if exact is not None else f"{self._chunks} chunks"
        rate = (exact or self._chunks) / max(self._last - self._started, 1e-9)
        return f"{amount}, {self._first - self._started:.2f} s to the first, {rate:.1f} a second"
