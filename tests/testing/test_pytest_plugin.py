"""The plug-in in real runs of pytest."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from recording_builders import exchange, write

pytest_plugins = "pytester"

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
def run(pytester: pytest.Pytester):
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


def test_fixtures_serve_scripts_to_a_client(run, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_marker_replays_the_recording(run, recording: Path) -> None:
    result = run(
        """
@pytest.mark.rxmistral_recording("hello")
def test_hello(mistral_client, mistral_server):
    assert ask(mistral_client) == "Hello"
    assert len(mistral_server.requests) == 1

@pytest.mark.rxmistral_recording("hello", faults={1: "cut"}, speed=10)
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


def test_option_decides_which_tests_record(run, recording: Path) -> None:
    tests = """
from rxmistral.testing import pytest_plugin
@pytest.fixture
def mistral_server():
    return None
@pytest.mark.parametrize("name", ["hello", "missing"])
def test_mode(request, name):
    request.applymarker(pytest.mark.rxmistral_recording(name))
    path = pytest_plugin._recording_of(request)
    print(name, pytest_plugin._is_to_be_recorded(request, path), end=";")
"""
    for mode, printed in (
        ("none", "hello False;.missing False;."),
        ("once", "hello False;.missing True;."),
        ("all", "hello True;.missing True;."),
    ):
        result = run(tests, f"--rxmistral-record={mode}", "-s", "-q")
        result.stdout.fnmatch_lines([f"*{printed}*"])


def test_server_is_not_available_while_recording(run, recording: Path) -> None:
    tests = """
@pytest.mark.rxmistral_recording("hello")
def test_hello(mistral_server):
    pass
"""
    result = run(tests, "--rxmistral-record=all")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*there is no mistral_server while --rxmistral-record records*"])
    assert json.loads(recording.read_text().splitlines()[0])["rxmistral"] == 1


def test_plugin_loads_nothing_that_is_not_used(run) -> None:
    result = run(
        """
import subprocess, sys
def test_modules():
    code = "import pytest, sys, rxmistral.testing.pytest_plugin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert not {"reactivex", "msgspec", "requests"} & set(loaded.split())
"""
    )
    result.assert_outcomes(passed=1)
    result = run("", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.rxmistral_recording(name, speed=None, *"])
    result = run("", "--help")
    result.stdout.fnmatch_lines(["*--rxmistral-record={none,once,all}*"])
