"""The example batch.py: many prompts, some at a time, and runs that are continued."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import pytest
from faces import BOUND, eventually

from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, finish, steps

EXAMPLE = Path(__file__).parents[1] / "examples" / "batch.py"

Run = Callable[..., list[dict[str, str]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the example with some prompts, and returns the lines of its output."""
    prompts, output = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"

    def run(server: ScriptedServer, *lines: str, concurrency: int = 2) -> list[dict[str, str]]:
        prompts.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
        arguments = [str(prompts), str(output), "--concurrency", str(concurrency)]
        monkeypatch.setattr(sys, "argv", ["batch.py", *arguments])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

    return run


def prompt_of(request: ReceivedRequest) -> str:
    return str(request.json["messages"][-1]["content"])


def echo(request: ReceivedRequest) -> Script:
    return [f"re: {prompt_of(request)}", finish()]


def test_batch_writes_answers_in_order_of_prompts(run: Run) -> None:
    def answer(request: ReceivedRequest) -> Script:
        if prompt_of(request) == "a":
            assert eventually(lambda: len(server.requests) > 1, BOUND)
        return echo(request)

    with ScriptedServer(answer) as server:
        lines = run(server, "a", "b", "ü")
    assert lines == [{"prompt": each, "answer": f"re: {each}"} for each in "abü"]


def test_batch_asks_as_many_prompts_at_a_time(run: Run) -> None:
    lock, running, most = Lock(), 0, 0

    def answer(request: ReceivedRequest) -> Script:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        eventually(lambda: running > 2, 0.1)  # a third request would arrive meanwhile
        with lock:
            running -= 1
        return echo(request)

    with ScriptedServer(answer) as server:
        run(server, *"abcdef")
    assert most == 2


def test_batch_continues_after_the_last_complete_line(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    output.write_text('{"prompt": "a", "answer": "kept"}\n{"prompt": "b", "ans', encoding="utf-8")
    with ScriptedServer(echo) as server:
        lines = run(server, "a", "b", "c")
        assert sorted(map(prompt_of, server.requests)) == ["b", "c"]
    assert [line["answer"] for line in lines] == ["kept", "re: b", "re: c"]


def test_batch_writes_the_error_of_an_answer(run: Run) -> None:
    def answer(request: ReceivedRequest) -> Script:
        return [steps.status(400)] if prompt_of(request) == "b" else echo(request)

    with ScriptedServer(answer) as server:
        lines = run(server, "a", "b", "c")
    assert [line["prompt"] for line in lines] == ["a", "b", "c"]
    assert "400" in lines[1]["error"]
    assert "error" not in lines[2]
