"""The command, run as from a shell."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from rxmistral.cli import main
from rxmistral.testing import ScriptedServer, steps

HELLO = [steps.role(), "Hel", "lo 😀", steps.finish(usage=(3, 2)), steps.done()]
COMMAND = [sys.executable, "-m", "rxmistral"]


def environment(**more: str) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if not k.startswith("MISTRAL_")}, **more}


def run(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env=environment(PYTHONIOENCODING="utf-8", **more),
        timeout=60,
    )


def test_only_the_answer_goes_to_stdout() -> None:
    with ScriptedServer(HELLO) as server:
        done = run("Hi", "--server-url", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello 😀\n", "")
    assert server.requests[0].json["messages"] == [{"role": "user", "content": "Hi"}]


def test_options_are_sent_in_the_request() -> None:
    with ScriptedServer(HELLO) as server:
        run("Hi", "--server-url", server.url, "--model", "big", "--system", "Be brief.",
            "--temperature", "0.5", "--max-tokens", "7")  # fmt: skip
    assert server.requests[0].json == {
        "model": "big",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "stream": True,
        "temperature": 0.5,
        "max_tokens": 7,
    }


def test_dash_reads_the_prompt_from_stdin() -> None:
    with ScriptedServer(HELLO) as server:
        run("-", "--server-url", server.url, stdin="from a file\n")
    assert server.requests[0].json["messages"][0]["content"] == "from a file\n"


def test_json_prints_one_chunk_per_line() -> None:
    with ScriptedServer(HELLO) as server:
        done = run("Hi", "--server-url", server.url, "--json")
    chunks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == [
        "",
        "Hel",
        "lo 😀",
        "",
    ]
    assert chunks[-1]["usage"]["completion_tokens"] == 2


def test_json_has_the_usage_as_it_was_sent() -> None:
    with ScriptedServer(["Hi", steps.usage(1, 2, new={"a": 1}), steps.finish()]) as server:
        done = run("Hi", "--server-url", server.url, "--json")
    (usage,) = (
        chunk["usage"] for chunk in map(json.loads, done.stdout.splitlines()) if "usage" in chunk
    )
    assert usage["new"] == {"a": 1}


def test_stats_go_to_stderr_when_requested() -> None:
    with ScriptedServer(HELLO, ["no usage", steps.done()], [steps.role(), steps.done()]) as server:
        exact = run("Hi", "--server-url", server.url, "--stats")
        counted = run("Hi", "--server-url", server.url, "--stats")
        none = run("Hi", "--server-url", server.url, "--stats")
    assert exact.stderr.startswith("2 tokens, 0.")
    assert "s to the first" in exact.stderr
    assert "a second" in exact.stderr
    assert counted.stderr.startswith("1 chunks")
    assert none.stderr == "no tokens\n"


def test_demo_server_answers_without_a_key() -> None:
    done = run("Why is the sky blue?")
    assert done.returncode == 0
    assert "demo server" in done.stderr
    assert "scatters" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "the following arguments are required: prompt"),
        (("Hi", "--serve"), "--serve: not allowed with a prompt"),
        (("--serve", "65536"), "PORT must be a number from 0 to 65535, got '65536'"),
        (("--serve", "-1"), "--serve"),
        (("--serve", "http"), "PORT must be a number"),
        (("Hi", "--temperature", "hot"), "invalid float"),
        (("Hi", "--temperature", "nan", "--server-url", "http://localhost:9"), "finite"),
        (("", "--server-url", "http://localhost:9"), "prompt is empty"),
        (("Hi", "--server-url", "nowhere"), "server_url must begin"),
        (("Hi", "--server-url", "https://example.org"), "MISTRAL_API_KEY"),
    ],
)
def test_wrong_call_prints_one_line_and_exits_with_2(
    arguments: tuple[str, ...], expected: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("script", "printed", "expected"),
    [
        (
            [steps.status(401, body={"detail": "Unauthorized"})],
            "",
            "401 Unauthorized: Unauthorized",
        ),
        (["Hel", steps.abort()], "Hel\n", "the connection broke"),
        (["Hel", steps.end()], "Hel\n", "neither a finish_reason nor [DONE]"),
        (["Hel", steps.error("overloaded")], "Hel\n", "overloaded"),
        ([steps.status(200, body="<html>\nlogin\n</html>")], "", ": login"),
    ],
)
def test_error_prints_one_line_and_exits_with_1(script: Any, printed: str, expected: str) -> None:
    with ScriptedServer(script) as server:
        done = run("Hi", "--server-url", server.url)
    assert (done.returncode, done.stdout) == (1, printed)
    (line,) = done.stderr.splitlines()
    assert line.startswith("rxmistral: ")
    assert expected in line


def test_unreachable_server_exits_with_1() -> None:
    done = run("Hi", "--server-url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("rxmistral: no answer")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("silent", [[steps.hang()], ["Hel", steps.hang()]])
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send to a process")
def test_ctrl_c_exits_at_once_with_130(silent: Any) -> None:
    with ScriptedServer(silent) as server:
        process = subprocess.Popen(
            [*COMMAND, "Hi", "--server-url", server.url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        )  # fmt: skip
        (request,) = server.wait_for_requests(1, timeout=60)
        assert process.stdout is not None
        if len(silent) > 1:
            assert process.stdout.read(3) == b"Hel"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        assert stdout == (b"\n" if len(silent) > 1 else b"")
        assert stderr == b""
        assert request.wait_closed()


def test_closed_pipe_ends_the_command_quietly() -> None:
    with ScriptedServer(["one\n", *["more\n"] * 100_000, steps.hang()]) as server:
        process = subprocess.Popen(
            [*COMMAND, "Hi", "--server-url", server.url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"one\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0
        process.stderr.close()
        server.requests[0].wait_closed()


def test_environment_chooses_the_server_of_the_command() -> None:
    with ScriptedServer(HELLO) as server:
        done = run("Hi", MISTRAL_SERVER_URL=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello 😀\n", "")
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize("port", [(), ("0",), ("given",)])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send to a process")
def test_serve_runs_the_demo_server_until_a_signal(
    port: tuple[str, ...], ending: signal.Signals
) -> None:
    if port == ("given",):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = (str(free.getsockname()[1]),)
    with subprocess.Popen(
        [*COMMAND, "--serve", *port],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1:")
        assert port in ((), ("0",)) or url.endswith(":" + port[0])
        assert run("Say hello.", MISTRAL_SERVER_URL=url).stdout == "Hello\n"
        process.send_signal(ending)
        assert process.communicate(timeout=10) == (b"", b"")
        assert process.returncode == 0


def test_serve_refuses_a_port_in_use_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--serve", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"rxmistral: cannot serve on port {port}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
def test_closed_stdout_prints_one_line_and_exits_with_2() -> None:
    command = f"{sys.executable} -m rxmistral Hi >&-"
    done = subprocess.run(
        ["sh", "-c", command], stderr=subprocess.PIPE, text=True, env=environment(), timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "rxmistral: there is no stdout to print to\n"


# --- bytes that are not text, and a stdout that fails -------------------------

only_posix = pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


def shell(command: str, stdin: bytes = b"", **more: str) -> tuple[int, str, str]:
    """Runs a shell command that begins with `rxmistral`."""
    done = subprocess.run(
        [b"sh", b"-c", b"exec " + os.fsencode(f"{sys.executable} -m rxmistral {command}")],
        input=stdin, capture_output=True, env=environment(**more), timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@only_posix
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}])
@pytest.mark.parametrize(
    ("command", "errors"),
    [
        ("-", "rxmistral: stdin is not UTF-8 text: it has the byte 0xe9\n"),
        ("caf\udce9", "rxmistral: an argument is not UTF-8 text: b'caf\\xe9'\n"),
        ("Hi --system caf\udce9", "rxmistral: an argument is not UTF-8 text: b'caf\\xe9'\n"),
        ("- <&-", "rxmistral: there is no stdin to read the prompt from\n"),
    ],
)
def test_undecodable_input_prints_one_line_and_exits_with_2(
    command: str, errors: str, locale: dict[str, str]
) -> None:
    with ScriptedServer() as server:
        done = shell(f"--server-url {server.url} {command}", b"caf\xe9", **locale)
    assert done == (2, "", errors)


@needs_full
@pytest.mark.parametrize("buffered", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize("command", ["Hi", "Hi --json", "--help", "--version"])
def test_full_stdout_prints_one_line_and_exits_with_1(
    command: str, buffered: dict[str, str]
) -> None:
    with ScriptedServer(HELLO) as server:
        done = shell(f"--server-url {server.url} {command} >/dev/full", **buffered)
    assert done == (1, "", "rxmistral: stdout cannot be written to: No space left on device\n")


@needs_full
def test_full_stdout_is_reported_once_when_the_answer_breaks() -> None:
    with ScriptedServer(["Hel", steps.abort()]) as server:
        code, _, errors = shell(f"--server-url {server.url} Hi >/dev/full")
    assert (code, len(errors.splitlines())) == (1, 1)


@needs_full
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_answer_is_printed_when_stderr_cannot_be_written_to(stderr: str) -> None:
    with ScriptedServer(HELLO) as server:
        done = shell(f"--server-url {server.url} --stats Hi {stderr}")
    assert done == (0, "Hello 😀\n", "")


# --- control characters in a terminal ----------------------------------------------------

HOSTILE = ["a\x1b", "]0;owned\x07b\x1b[2", "Jc\x9b2Jd\x7f\x08e\r", "\nf\tg\rh"]


def on_terminal(*arguments: str) -> tuple[str, str]:
    """Returns the output of the command on a terminal, and its stderr on another one."""
    import pty  # does not exist on Windows

    written: list[str] = []
    pairs = [pty.openpty(), pty.openpty()]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL,
        stdout=pairs[0][1], stderr=pairs[1][1],
        env=environment(PYTHONIOENCODING="utf-8", TERM="dumb"),
    ) as process:  # fmt: skip
        assert process.wait(timeout=60) in (0, 1)
    for ours, its in pairs:
        os.close(its)
        written.append(_all_of(ours))
        os.close(ours)
    return written[0], written[1]


def _all_of(terminal: int) -> str:
    read: list[bytes] = []
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while block := os.read(terminal, 65536):
            read.append(block)
    return b"".join(read).decode().replace("\r\n", "\n")


@only_posix
def test_control_characters_are_replaced_in_a_terminal() -> None:
    with ScriptedServer([*HOSTILE, steps.done()]) as server:
        shown, _ = on_terminal("Hi", "--server-url", server.url)
    assert shown == "a␛]0;owned␇b␛[2Jc\ufffd2Jd␡␈e\nf\tgh\n"


@only_posix
def test_control_characters_of_an_error_are_replaced() -> None:
    body = {"message": "\x1b]0;owned\x07 no\x9b2J"}
    with ScriptedServer([steps.status(401, body=body)]) as server:
        shown, errors = on_terminal("Hi", "--server-url", server.url)
    assert shown == ""
    assert "␛]0;owned␇ no\ufffd2J (asked" in errors
    assert not {*errors} & {*"\x1b\x07\x9b"}


@only_posix
def test_control_characters_are_unchanged_in_a_pipe() -> None:
    with ScriptedServer([*HOSTILE, steps.done()], [steps.error("\x1b[2J\x07")]) as server:
        printed = shell(f"--server-url {server.url} Hi")[1]
        errors = shell(f"--server-url {server.url} Hi")[2]
    assert printed == "".join(HOSTILE) + "\n"
    assert "\x1b[2J\x07" in errors


@only_posix
def test_markdown_is_unchanged_in_a_pipe() -> None:
    with ScriptedServer(["**bold** ", "`code`\r\n\r\n# Title", steps.done()]) as server:
        printed = shell(f"--server-url {server.url} Hi", FORCE_COLOR="1")[1]
    assert printed == "**bold** `code`\r\n\r\n# Title\n"


def test_main_can_be_called(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(HELLO) as server:
        assert main(["Hi", "--server-url", server.url]) == 0
    assert capsys.readouterr().out == "Hello 😀\n"
