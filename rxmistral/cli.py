"""The command `rxmistral`, which sends a prompt and prints the answer as it arrives.

Only the answer goes to stdout; everything else, such as errors and figures, goes to stderr.
Without a prompt, it is a chat, in which stdout shows the prompts and the thinking, too.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO

import msgspec
from msgspec import UNSET

from .chat.client import Mistral, __version__
from .chat.event_stream import EventStream
from .chat.settings import KEY_VARIABLE, SERVER_URL_VARIABLE
from .demo import demo_server
from .errors import MistralError
from .models import CompletionEvent, as_sent
from .operators import text
from .terminal.printer import Printer, figures, printer_for
from .terminal.screen import (
    Screen,
    UnwritableError,
    discard,
    is_terminal,
    print_error,
    print_to_stderr,
)
from .terminal.stdin import read_stdin

__all__ = ["main"]

_FAILED, _MISUSED, _INTERRUPTED = 1, 2, 130  # exit codes


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    The code is 0 for success, 1 for an error, 2 for a wrong call and 130 after Ctrl-C. A chat
    ends with 0 after Ctrl-D, and with 130 after Ctrl-C was pressed twice.

    Args:
        arguments: The arguments of the command. None: those of the process.
    """
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except UnwritableError as error:
        discard(sys.stdout)
        if isinstance(error.__cause__, BrokenPipeError):  # the reader was closed, as in `| head -1`
            return 0
        print_to_stderr(f"rxmistral: stdout cannot be written to: {error}")
        return _FAILED


def _main(arguments: list[str]) -> int:
    if sys.stdout is None:  # closed by the shell, as in `>&-`
        print_to_stderr("rxmistral: there is no stdout to print to")
        return _MISUSED
    screen = Screen()
    try:
        _check_text(arguments)
        options = _options(arguments, screen)
        if options.serve is not None:
            return _serve(options.serve, screen)
        with _client(options) as client:
            if options.prompt is None:
                _chat(client, options, screen)
            else:
                _print_answer(client, options, screen)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except MistralError as error:
        print_error(error)
        return _FAILED
    except (TypeError, ValueError, OSError) as error:
        print_error(error)
        return _MISUSED
    return 0


def _options(arguments: list[str], screen: Screen) -> Namespace:
    parser = _parser()
    printed = StringIO()  # argparse ignores errors of stdout
    try:
        with redirect_stdout(printed):
            options = parser.parse_args(arguments)
    except SystemExit:
        screen.write(printed.getvalue())
        raise
    can_chat = is_terminal(sys.stdin) and is_terminal(sys.stdout) and not options.json
    if options.serve is None and options.prompt is None and not can_chat:
        parser.error("the following arguments are required: prompt (- reads it from stdin)")
    if options.serve is not None and options.prompt is not None:
        parser.error("argument --serve: not allowed with a prompt")
    return options


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="rxmistral",
        description="Sends a prompt to a Mistral model and prints the answer as it arrives. "
        "Without a prompt, starts a chat in the terminal.",
        epilog=f"The key is read from {KEY_VARIABLE}, the server from --server-url or "
        f"{SERVER_URL_VARIABLE}. If none of them is set, an embedded demo server answers. "
        "In a terminal, answers are rendered as Markdown if rxmistral[chat] is installed.",
    )
    parser.add_argument("prompt", nargs="?", help="the prompt; - reads it from stdin; none: a chat")
    parser.add_argument("--model", default="mistral-small-latest", help="default: %(default)s")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument("--temperature", type=float, default=UNSET, metavar="T")
    parser.add_argument("--max-tokens", type=int, default=UNSET, metavar="N")
    parser.add_argument("--server-url", metavar="URL", help="a server with the same endpoint")
    parser.add_argument(
        "--json", action="store_true", help="print the chunks as JSON, one per line"
    )
    parser.add_argument(
        "--stats",
        action="store_true",
        help="print figures also if stderr is not a terminal, and in a chat",
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


def _serve(port: int, screen: Screen) -> int:
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
    print_to_stderr(f"{KEY_VARIABLE} is not set: the embedded demo server answers.")
    return Mistral.demo()


def _chat(client: Mistral, options: Namespace, screen: Screen) -> None:
    # Imported here, since a single answer needs neither a conversation nor readline.
    conversation = import_module(".chat.conversation", __package__).Conversation(
        client,
        model=options.model,
        system=options.system,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
    )
    chat = import_module(".terminal.chat", __package__)
    chat.TerminalChat(conversation, screen, stats=options.stats).run()


def _request_answer(client: Mistral, options: Namespace) -> EventStream:
    prompt = read_stdin() if options.prompt == "-" else options.prompt
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


def _print_answer(client: Mistral, options: Namespace, screen: Screen) -> None:
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
        _show(counted.pipe(text()), printer_for(screen))
    outcome = answer.outcome
    if outcome is not None and (options.stats or is_terminal(sys.stderr)):
        print_to_stderr(figures(outcome, chunks))


def _show(tokens: Iterable[str], printer: Printer) -> None:
    try:
        for token in tokens:
            printer.write(token)
    finally:
        printer.end_line()
