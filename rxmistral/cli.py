"""The command `rxmistral`, which sends a prompt and prints the answer as it arrives.

Only the answer goes to stdout; everything else, such as errors and figures, goes to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import redirect_stdout
from io import StringIO
from typing import TextIO

import msgspec
from msgspec import UNSET

from .chat.client import Mistral, __version__
from .chat.event_stream import EventStream
from .chat.settings import KEY_VARIABLE, SERVER_URL_VARIABLE
from .demo import demo_server
from .errors import MistralError
from .models import CompletionEvent, as_sent
from .operators import text
from .outcome import Outcome

__all__ = ["main"]

_FAILED, _MISUSED, _INTERRUPTED = 1, 2, 130  # exit codes

# Replaces the characters that control a terminal, such as ESC, BEL and backspace, by their
# pictures, and removes carriage returns, which would let an answer overwrite earlier output.
# Each character is replaced by itself, so a sequence may be split between two tokens.
_CONTROL_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    ord("\r"): None,
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),  # C1
}


class _UnwritableError(Exception):
    """An error of stdout, which is the cause of this one."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    The code is 0 for success, 1 for an error, 2 for a wrong call and 130 after Ctrl-C.

    Args:
        arguments: The arguments of the command. None: those of the process.
    """
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except _UnwritableError as error:
        _discard(sys.stdout)
        if isinstance(error.__cause__, BrokenPipeError):  # the reader was closed, as in `| head -1`
            return 0
        _print_to_stderr(f"rxmistral: stdout cannot be written to: {error}")
        return _FAILED


def _main(arguments: list[str]) -> int:
    if sys.stdout is None:  # closed by the shell, as in `>&-`
        _print_to_stderr("rxmistral: there is no stdout to print to")
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
    printed = StringIO()  # argparse ignores errors of stdout
    try:
        with redirect_stdout(printed):
            options = parser.parse_args(arguments)
    except SystemExit:
        screen.write(printed.getvalue())
        raise
    if options.serve is None and options.prompt is None:
        parser.error("the following arguments are required: prompt (- reads it from stdin)")
    if options.serve is not None and options.prompt is not None:
        parser.error("argument --serve: not allowed with a prompt")
    return options


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="rxmistral",
        description="Sends a prompt to a Mistral model and prints the answer as it arrives.",
        epilog=f"The key is read from {KEY_VARIABLE}, the server from --server-url or "
        f"{SERVER_URL_VARIABLE}. If none of them is set, an embedded demo server answers.",
    )
    parser.add_argument("prompt", nargs="?", help="the prompt; - reads it from stdin")
    parser.add_argument("--model", default="mistral-small-latest", help="default: %(default)s")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument("--temperature", type=float, default=UNSET, metavar="T")
    parser.add_argument("--max-tokens", type=int, default=UNSET, metavar="N")
    parser.add_argument("--server-url", metavar="URL", help="a server with the same endpoint")
    parser.add_argument(
        "--json", action="store_true", help="print the chunks as JSON, one per line"
    )
    parser.add_argument(
        "--stats", action="store_true", help="print figures also if stderr is not a terminal"
    )
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


def _client(options: Namespace) -> Mistral:
    variables = (KEY_VARIABLE, SERVER_URL_VARIABLE)
    if options.server_url or any(os.environ.get(name, "").strip() for name in variables):
        return Mistral(server_url=options.server_url)
    _print_to_stderr(f"{KEY_VARIABLE} is not set: the embedded demo server answers.")
    return Mistral.demo()


def _request_answer(client: Mistral, options: Namespace) -> EventStream:
    prompt = _read_stdin() if options.prompt == "-" else options.prompt
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    messages = [{"role": "user", "content": prompt}]
    if options.system is not None:
        messages.insert(0, {"role": "system", "content": options.system})
    return client.chat.stream(
        model=options.model,
        messages=messages,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
    )


def _check_text(arguments: list[str]) -> None:
    # Python decodes each undecodable byte from the shell to half of a surrogate pair.
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
        reconfigure(errors="strict")  # the C locale would accept any byte
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"stdin is not {error.encoding.upper()} text: it has the byte 0x{byte:02x}"
        ) from error


def _print_answer(client: Mistral, options: Namespace, screen: _Screen) -> None:
    chunks = 0

    def count(event: CompletionEvent) -> None:
        nonlocal chunks
        chunks += any(choice.delta.content for choice in event.data.choices)

    answer = _request_answer(client, options)
    counted = answer.do_action(count)
    if options.json:
        for event in counted:
            screen.write(msgspec.json.encode(as_sent(event)).decode() + "\n")
    else:
        for token in counted.pipe(text()):
            screen.write(token)
        screen.end_line()
    outcome = answer.outcome
    if outcome is not None and (options.stats or _is_terminal(sys.stderr)):
        _print_to_stderr(_figures(outcome, chunks))


def _fail(screen: _Screen, error: Exception, code: int) -> int:
    screen.end_line()
    _print_to_stderr(f"rxmistral: {' '.join(str(error).split())}")
    return code


def _print_to_stderr(line: str) -> None:
    if sys.stderr is None:
        return
    try:
        print(_displayed(line, sys.stderr), file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _displayed(text: str, stream: TextIO) -> str:
    return text.translate(_CONTROL_PICTURES) if _is_terminal(stream) else text


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _discard(stream: TextIO) -> None:
    # Otherwise its buffer would fail again when the interpreter exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Screen:
    """stdout, and whether its last line has ended."""

    def __init__(self) -> None:
        self._in_line = False
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # such as an emoji that the terminal cannot show

    def write(self, piece: str) -> None:
        self._in_line = not piece.endswith("\n")  # first, as Ctrl-C may interrupt the write
        try:
            sys.stdout.write(_displayed(piece, sys.stdout))
            sys.stdout.flush()
        except OSError as error:
            raise _UnwritableError(error.strerror) from error

    def end_line(self) -> None:
        if self._in_line:
            self.write("\n")


def _figures(outcome: Outcome, chunks: int) -> str:
    """Returns the number of tokens or chunks received, and their rate."""
    first, last = outcome.seconds_to_first_token, outcome.seconds_to_last_token
    if first is None or last is None:
        return "no tokens"
    exact = outcome.usage.completion_tokens if outcome.usage else None
    amount = f"{exact} tokens" if exact is not None else f"{chunks} chunks"
    rate = (exact or chunks) / max(last, 1e-9)
    return f"{amount}, {first:.2f} s to the first, {rate:.1f} a second"
