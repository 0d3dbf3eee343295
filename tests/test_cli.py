"""The main job from a shell, run as a shell runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from rxmistral.cli import main
from rxmistral.testing import ScriptedServer, steps

HELLO = [steps.role(), "Hel", "lo 😀", steps.finish(usage=(3, 2)), steps.done()]
COMMAND = [sys.executable, "-m", "rxmistral"]


def environment(**more: str) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k != "MISTRAL_API_KEY"}, **more}


def run(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env=environment(PYTHONIOENCODING="utf-8", **more),
        timeout=60,
    )


def test_the_answer_alone_goes_to_stdout() -> None:
    with ScriptedServer(HELLO) as server:
        done = run("Hi", "--server-url", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello 😀\n", "")
    assert server.requests[0].json["messages"] == [{"role": "user", "content": "Hi"}]


def test_the_options_go_into_the_request() -> None:
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


def test_a_dash_reads_the_prompt_from_stdin() -> None:
    with ScriptedServer(HELLO) as server:
        run("-", "--server-url", server.url, stdin="from a file\n")
    assert server.requests[0].json["messages"][0]["content"] == "from a file\n"


def test_json_prints_one_chunk_a_line() -> None:
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


def test_stats_go_to_stderr_where_they_are_asked_for() -> None:
    with ScriptedServer(HELLO, ["no usage", steps.done()], [steps.role(), steps.done()]) as server:
        exact = run("Hi", "--server-url", server.url, "--stats")
        counted = run("Hi", "--server-url", server.url, "--stats")
        none = run("Hi", "--server-url", server.url, "--stats")
    assert exact.stderr.startswith("2 tokens, 0.")
    assert "s to the first" in exact.stderr
    assert "a second" in exact.stderr
    assert counted.stderr.startswith("1 chunks")
    assert none.stderr == "no tokens\n"


def test_without_a_key_the_demo_server_answers_and_says_so() -> None:
    done = run("Why is the sky blue?")
    assert done.returncode == 0
    assert "demo server" in done.stderr
    assert "scatters" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "usage:"),
        (("Hi", "--temperature", "hot"), "invalid float"),
        (("Hi", "--temperature", "nan", "--server-url", "http://localhost:9"), "finite"),
        (("", "--server-url", "http://localhost:9"), "prompt is empty"),
        (("Hi", "--server-url", "nowhere"), "server_url must begin"),
        (("Hi", "--server-url", "https://example.org"), "MISTRAL_API_KEY"),
    ],
)
def test_a_wrong_call_is_one_line_and_code_2(arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("script", "printed", "told"),
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
def test_an_error_is_one_line_and_code_1(script: Any, printed: str, told: str) -> None:
    with ScriptedServer(script) as server:
        done = run("Hi", "--server-url", server.url)
    assert (done.returncode, done.stdout) == (1, printed)
    (line,) = done.stderr.splitlines()
    assert line.startswith("rxmistral: ")
    assert told in line


def test_nobody_there_is_code_1() -> None:
    done = run("Hi", "--server-url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("rxmistral: no answer came")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("silent", [[steps.hang()], ["Hel", steps.hang()]])
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send to a process")
def test_ctrl_c_stops_at_once_with_code_130(silent: Any) -> None:
    with ScriptedServer(silent) as server:
        process = subprocess.Popen(
            [*COMMAND, "Hi", "--server-url", server.url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        )  # fmt: skip
        (request,) = server.wait_for_requests(1, timeout=30)
        assert process.stdout is not None
        if len(silent) > 1:
            assert process.stdout.read(3) == b"Hel"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=10)
        assert process.returncode == 130
        assert stdout == (b"\n" if len(silent) > 1 else b"")
        assert stderr == b""
        assert request.wait_closed()


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
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
        assert process.wait(timeout=10) == 0
        process.stderr.close()
        server.requests[0].wait_closed()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
def test_a_closed_stdout_is_one_line_and_code_2() -> None:
    command = f"{sys.executable} -m rxmistral Hi >&-"
    done = subprocess.run(
        ["sh", "-c", command], stderr=subprocess.PIPE, text=True, env=environment(), timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "rxmistral: there is no stdout to print to\n"


def test_main_can_be_called(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(HELLO) as server:
        assert main(["Hi", "--server-url", server.url]) == 0
    assert capsys.readouterr().out == "Hello 😀\n"
