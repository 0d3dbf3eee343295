"""The plug-in in real runs of pytest."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recording_builders import exchange, write

from rxmistral.testing import ScriptedServer, pytest_plugin, steps

pytest_plugins = "pytester"

Run = Callable[..., pytest.RunResult]
PLUGIN = "rxmistral.testing.pytest_plugin"
IMPORTS = """
import pytest
from rxmistral import Mistral, StatusError, text
from rxmistral.testing import finish

def ask(client, prompt="Hi"):
    messages = [{"role": "user", "content": prompt}]
    return "".join(client.chat.stream(model="m", messages=messages).pipe(text()))
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs tests in a process of their own, with the plug-in; options are words."""

    def run(tests: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(IMPORTS + tests)
        is_installed = any(each.value == PLUGIN for each in entry_points(group="pytest11"))
        load = () if is_installed else ("-p", PLUGIN)
        return pytester.runpytest_subprocess(*load, "--strict-markers", *options, timeout=60)

    return run


@pytest.fixture
def recording(pytester: pytest.Pytester) -> Path:
    folder = pytester.path / "recordings"
    folder.mkdir()
    return write(folder / "hello.jsonl", exchange())


def test_fixtures_serve_scripts_to_a_client(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "private")
    monkeypatch.setenv("MISTRAL_SERVER_URL", "http://127.0.0.1:9")
    result = run(
        """
def test_two_answers(mistral_server, mistral_client):
    mistral_server.script(["Hel", "lo", finish()])
    mistral_server.script(["Bye", finish()])
    assert ask(mistral_client) == "Hello"
    assert ask(mistral_client) == "Bye"
    assert "private" not in mistral_server.requests[0].headers["authorization"]

def test_client_alone(mistral_client):
    assert isinstance(mistral_client, Mistral)

def test_request_without_a_script(mistral_client):
    with pytest.raises(StatusError):
        ask(mistral_client)
"""
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*AssertionError: no script for <request 0*"])


def test_marker_replays_the_recording(run: Run, recording: Path) -> None:
    result = run(
        """
@pytest.mark.rxmistral_recording("hello")
def test_hello(mistral_client, mistral_server):
    assert ask(mistral_client) == "Hello"
    assert len(mistral_server.requests) == 1

@pytest.mark.rxmistral_recording(name="hello", faults={1: "cut"}, speed=10)
def test_options(mistral_client):
    with pytest.raises(Exception, match="ended"):
        ask(mistral_client)

@pytest.mark.rxmistral_recording("hello")
def test_other_prompt(mistral_client):
    ask(mistral_client, "Ho")

@pytest.mark.rxmistral_recording("missing")
def test_missing(mistral_client):
    pass

@pytest.mark.rxmistral_recording
def test_without_a_name(mistral_client):
    pass
"""
    )
    result.assert_outcomes(passed=2, failed=1, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            '*+      "content": "Ho",*',
            "*there is no recording *missing.jsonl; record it with --rxmistral-record=once",
            "*rxmistral_recording needs the name of a recording, got ()",
        ]
    )


@pytest.mark.parametrize(
    ("mode", "names"), [("none", []), ("once", ["missing"]), ("all", ["hello", "missing"])]
)
def test_option_decides_which_tests_record(recording: Path, mode: str, names: list[str]) -> None:
    request: Any = SimpleNamespace(config=SimpleNamespace(getoption=lambda name: mode))
    recorded = [
        name
        for name in ("hello", "missing")
        if pytest_plugin._is_to_be_recorded(request, recording.with_stem(name))
    ]
    assert recorded == names


def test_server_is_not_available_while_recording(run: Run, recording: Path) -> None:
    tests = """
@pytest.mark.rxmistral_recording("hello")
def test_hello(mistral_server):
    pass
"""
    result = run(tests, "--rxmistral-record=all")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*there is no mistral_server while --rxmistral-record records*"])
    assert json.loads(recording.read_text().splitlines()[0])["rxmistral"] == 1


def test_plugin_registers_its_marker_and_option(run: Run) -> None:
    marker = "@pytest.mark.rxmistral_recording(name, speed=None, *"
    run("", "--markers").stdout.fnmatch_lines([marker])
    run("", "--help").stdout.fnmatch_lines(["*--rxmistral-record={none,once,all}*"])


def test_recording_is_made_once_and_replayed(
    run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = """
@pytest.mark.rxmistral_recording("new")
def test_new(mistral_client):
    assert ask(mistral_client) == "Hello"
"""
    hello = ["Hel", "lo", steps.finish(), steps.done()]
    path = pytester.path / "recordings" / "new.jsonl"
    with ScriptedServer(hello, hello) as server:
        monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
        monkeypatch.setenv("MISTRAL_API_KEY", "sk-private")
        for mode, requests in (("once", 1), ("once", 1), ("all", 2), ("none", 2)):
            run(tests, f"--rxmistral-record={mode}").assert_outcomes(passed=1)
            assert len(server.requests) == requests
        assert server.requests[0].headers["Authorization"] == "Bearer sk-private"
    assert "sk-private" not in path.read_text()
