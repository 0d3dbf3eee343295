"""Tools of others with which programs fake or record HTTP; vcrpy itself: tests/wire/test_session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests_mock
import responses
from faces import Face

from rxmistral import EventStream, Mistral, RateLimitError, Retry, text
from rxmistral.testing import ScriptedServer, record, steps

pytest_plugins = "pytester"

URL = "https://api.mistral.ai/v1/chat/completions"
HEADERS = {"Content-Type": "text/event-stream"}
BODY = b"".join(
    b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, **choice}]}).encode()
    for choice in (
        {"delta": {"content": "Hel"}, "finish_reason": None},
        {"delta": {"content": "lo"}, "finish_reason": "stop"},
    )
)


def ask(client: Mistral) -> EventStream:
    return client.chat.stream(model="m", messages=[{"role": "user", "content": "Hi"}])


@pytest.fixture
def client() -> Mistral:
    return Mistral("sk-private", retry=Retry(attempts=2, initial=0.01))


@responses.activate
def test_responses_fakes_an_answer(client: Mistral, read: Face) -> None:
    responses.post(URL, status=503, body="overloaded")
    responses.post(URL, body=BODY, headers=HEADERS)
    assert read(ask(client).pipe(text())) == ["Hel", "lo"]
    assert len(responses.calls) == 2
    assert responses.calls[0].request.headers["Authorization"] == "Bearer sk-private"


@responses.activate
def test_responses_fakes_a_refusal(client: Mistral) -> None:
    responses.post(URL, status=429, json={"message": "slow down"}, headers={"Retry-After": "0"})
    with pytest.raises(RateLimitError, match="slow down"):
        ask(client).run()


def test_requests_mock_fakes_an_answer(client: Mistral, read: Face) -> None:
    with requests_mock.Mocker() as mocker:
        mocker.post(
            URL, [{"status_code": 503}, {"status_code": 200, "content": BODY, "headers": HEADERS}]
        )
        assert read(ask(client).pipe(text())) == ["Hel", "lo"]
        assert mocker.call_count == 2
        assert mocker.last_request.json()["stream"] is True


def test_requests_mock_fakes_a_refusal(client: Mistral) -> None:
    with requests_mock.Mocker() as mocker:
        mocker.post(URL, status_code=429, json={"message": "slow down"})
        with pytest.raises(RateLimitError, match="slow down"):
            ask(client).run()


def test_faked_answer_is_recorded(client: Mistral, tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    with responses.RequestsMock() as mocker, record(path):
        mocker.post(URL, body=BODY, headers=HEADERS)
        ask(client).run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert "".join(line.get("text", "") for line in lines) == BODY.decode()
    assert lines[-1]["end"] == "eof"
    assert "sk-private" not in path.read_text()


def test_pytest_recording_records_and_replays(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        test_program="""
            import os
            import pytest
            from rxmistral import Mistral, text

            @pytest.fixture(scope="module")
            def vcr_config():
                return {"filter_headers": ["authorization"]}

            @pytest.mark.vcr
            def test_answer():
                with Mistral("sk-private", server_url=os.environ["SERVER"]) as client:
                    answer = client.chat.stream(
                        model="m", messages=[{"role": "user", "content": "Hi"}]
                    )
                    assert "".join(answer.pipe(text())) == "Hello"
        """
    )
    with ScriptedServer(["Hel", "lo", steps.finish(), steps.done()]) as server:
        monkeypatch.setenv("SERVER", server.url)
        for mode in ("once", "none"):
            result = pytester.runpytest_subprocess(
                "-p", "no:cacheprovider", f"--record-mode={mode}"
            )
            result.assert_outcomes(passed=1)
        assert len(server.requests) == 1
    cassettes: Any = list(pytester.path.glob("cassettes/**/*.yaml"))
    assert len(cassettes) == 1
    assert "sk-private" not in cassettes[0].read_text()
