"""The plug-in for pytest: fixtures without a model, and recordings of a real server.

    def test_greeting(mistral_server, mistral_client):
        mistral_server.script(["Hello", steps.finish(), steps.done()])
        assert greet(mistral_client) == "Hello"

    @pytest.mark.rxmistral_recording("paris")
    def test_capital(mistral_client):  # replays recordings/paris.jsonl beside this file
        assert "Paris" in capital_of(mistral_client, "France")

`pytest --rxmistral-record=once` records the second test from MISTRAL_SERVER_URL with
MISTRAL_API_KEY if there is no recording, `=all` also if there is one. A recording contains the
requests of one test, so two tests need two names.

Every run of pytest imports this module, so it loads nothing that a fixture has not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rxmistral.testing

if TYPE_CHECKING:
    from rxmistral import Mistral
    from rxmistral.testing import ScriptedServer

_MARKER = "rxmistral_recording"
_OPTION = "--rxmistral-record"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("rxmistral").addoption(
        _OPTION,
        choices=["none", "once", "all"],
        default="none",
        help=f"record the tests that have the marker {_MARKER}: "
        "none (default): replay them; once: if there is no recording; all: always",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(name, speed=None, faults=None): mistral_client replays "
        "recordings/NAME.jsonl beside the test; the others are arguments of "
        "rxmistral.testing.replay",
    )


@pytest.fixture
def mistral_server(request: pytest.FixtureRequest) -> Iterator[ScriptedServer]:
    """A started server; `mistral_server.script(...)` adds scripts, each for one request.

    With the marker `rxmistral_recording`, it replays the recording.
    """
    recording = _recording_of(request)
    if recording is None:
        server = rxmistral.testing.ScriptedServer()
    else:
        path, options = recording
        if _is_to_be_recorded(request, path):
            pytest.fail(f"there is no mistral_server while {_OPTION} records {path}")
        if not path.exists():
            pytest.fail(f"there is no recording {path}; record it with {_OPTION}=once")
        server = rxmistral.testing.replay(path, **options)
    with server:
        yield server


@pytest.fixture
def mistral_client(request: pytest.FixtureRequest) -> Iterator[Mistral]:
    """A client of `mistral_server`; of the real server, while a recording is made."""
    recording = _recording_of(request)
    if recording is not None and _is_to_be_recorded(request, recording[0]):
        with rxmistral.testing.record(recording[0]), rxmistral.Mistral() as client:
            yield client
        return
    server: ScriptedServer = request.getfixturevalue("mistral_server")
    with rxmistral.Mistral(api_key="test", server_url=server.url) as client:
        yield client


def _recording_of(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]] | None:
    """Returns the path of the test's recording, and the options of `replay`; None: no marker."""
    marker = request.node.get_closest_marker(_MARKER)
    if marker is None:
        return None
    match marker.args, marker.kwargs:
        case ((str(name),), options) | ((), {"name": str(name), **options}):
            path = request.path.parent / "recordings" / f"{name}.jsonl"
            return path, {"speed": None, **options}
        case _:
            raise pytest.UsageError(f"{_MARKER} needs the name of a recording, got {marker.args}")


def _is_to_be_recorded(request: pytest.FixtureRequest, path: Path) -> bool:
    mode = request.config.getoption(_OPTION)
    return mode == "all" or (mode == "once" and not path.exists())
