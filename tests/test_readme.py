"""Runs the programs of the README and of the examples, and compares their output."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from brokers import Broker, Nats, Redis, nats_server, redis_server

from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Tested in files of their own: they need more than a server that answers.
ELSEWHERE = {
    "batch": "test_batch.py",
    "observe": "telemetry/test_observe.py",
    "relay_flask": "test_serving_examples.py",
    "tk_chat": "test_tk_chat.py",
}
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in ELSEWHERE)

BLOCKS = list(re.finditer(r"^```python\n(?P<code>.*?)^```\n", README, re.M | re.S))
OUTPUT = re.compile(r"^# > (.*\n)", re.M)  # at the end of a block, what it prints
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]+)\)")

FIVE: Script = [
    steps.role(),
    "One,",
    " two,",
    " three,",
    " four,",
    " five.",
    steps.finish(),
    steps.done(),
]


CALL: Script = [
    steps.role(),
    steps.tool_call(id="call9", name="weather", arguments='{"city": "Par', index=0),
    steps.tool_call(name="", arguments='is"}', index=0, finish="tool_calls"),
    steps.done(),
]
BOOKING: Script = [
    steps.role(),
    "I look. ",
    *(
        steps.tool_call(id=f"call0000{index}", name=name, arguments=arguments, index=index)
        for index, (name, arguments) in enumerate(
            {
                "weather": '{"city": "Paris"}',
                "trains": '{"start": "Lyon", "to": "Paris"}',
                "book": '{"train": "8:15"}',
            }.items()
        )
    ),
    steps.finish("tool_calls"),
    steps.done(),
]
RECIPE: Script = [
    steps.role(),
    '{"title": "Crê',
    'pes", "ingredients": [{"name": "flour", "grams": 250}',
    ', {"name": "milk", ',
    '"grams": 500}], "vegan": false}',
    steps.finish(),
    steps.done(),
]


def answer(request: ReceivedRequest) -> Script:
    match request.json["messages"][-1]["content"]:
        case "Count forever.":
            return [steps.role(), "one, ", "two, ", "three, ", steps.hang()]
        case "What is the weather in Paris?":
            return CALL
        case "Book a train to Paris, if it is sunny there.":
            return BOOKING
        case "no 1 seats are free in the train 8:15":
            return ["The train at 8:15 is full.", steps.finish(), steps.done()]
        case "21 degrees in Paris":
            return ["It is 21 degrees", " in Paris.", steps.finish(), steps.done()]
        case "Give me a recipe for crêpes.":
            return RECIPE
        case _:
            return FIVE


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if not redis_server():
        pytest.skip("redis-server is not installed")
    broker = Redis(tmp_path_factory.mktemp("redis"))
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if not nats_server():
        pytest.skip("nats-server is not installed")
    broker = Nats(tmp_path_factory.mktemp("nats"))
    yield broker
    broker.kill()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """Yields a scripted server that `Mistral()` asks."""
    with ScriptedServer(answer) as server:
        monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
        yield server
        for thread in threading.enumerate():
            if thread.name == "rxmistral-reader":
                thread.join(timeout=60)


def wait_for_readers() -> None:
    """Waits for threads as the interpreter does before it exits; a thread may start another."""
    names = ("rxmistral-reader", "rxmistral-event-loop", "rxmistral-delivery", "rxmistral-log-")
    while threads := [
        t for t in threading.enumerate() if t.name.startswith(names) and not t.daemon
    ]:
        threads[0].join(timeout=60)


@pytest.mark.parametrize(
    "block", BLOCKS, ids=lambda block: f"line{README[: block.start()].count(chr(10)) + 1}"
)
def test_readme_block_runs_as_it_stands(block: re.Match[str], tmp_path: Path) -> None:
    output = run_block(block, tmp_path)
    if expected := OUTPUT.findall(block["code"]):
        assert output.strip() == "".join(expected).strip()


def run_block(block: re.Match[str], directory: Path) -> str:
    """Returns what the block prints as a program of its own, or as a test, without a key."""
    file = directory / "block.py"
    runner = run_tests() if "\ndef test_" in block["code"] else []
    file.write_text(block["code"], encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MISTRAL_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", *runner, str(file)],
        capture_output=True,
        cwd=directory,
        env=environment | {"PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def run_tests() -> list[str]:
    plugin = "rxmistral.testing.pytest_plugin"
    is_installed = any(each.value == plugin for each in entry_points(group="pytest11"))
    return ["-m", "pytest", "-q", *(() if is_installed else ("-p", plugin))]


def test_readme_blocks_are_all_found() -> None:
    assert len(BLOCKS) == README.count("```python") >= 10
    assert sum("# > " in block["code"] for block in BLOCKS) >= 7


def test_readme_links_lead_to_files() -> None:
    paths = {link["path"] for link in LINK.finditer(README)}
    assert len(paths) >= 20
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_readme_links_to_each_example() -> None:
    shown = {*(ROOT / "examples").glob("*.py"), ROOT / "examples" / "web_chat" / "app.py"}
    assert [path.name for path in shown if str(path.relative_to(ROOT)) not in README] == []


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 300


def test_readme_commands_are_single_lines() -> None:
    commands = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
    assert [command.count("\n") for command in commands] == [1, 1]
    assert commands[0].rstrip().endswith('.venv/bin/rxmistral "Why is the sky blue?"')
    # .ci/run runs the first line of the README that contains "-m pytest".
    assert next(line for line in README.splitlines() if "-m pytest" in line) in commands[1]


def test_readme_faces_print_the_same_tokens(tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if "tokens.subscribe(print)" in block["code"])
    output = run_block(block, tmp_path)
    assert output.count(" three,") == 4  # two threads print concurrently, and may share a line
    assert "whole: One, two, three, four, five." in output


EXPECTED = {
    "coming_from_other_sdks": (
        "stream() got an unexpected keyword argument 'seed'; Mistral's word for it is random_seed\n"
        "One, two, th... sorry.\nHello\n"
    ),
    "compose_the_pipe": (
        "['', 'One,', ' two,', ' three,', ' four,', ' five.', '']\nOne, two, three, four, five.\n"
    ),
    "deployment": 'data: "Hel"\n\nid: 2\ndata: "lo"\n\nevent: end\n',
    "messages": "One, two, three, four, five.\n",
    "read_on_trio": "one, two, three, enough\n",
    "agent": "The train at 8:15 is full.\ncompleted after 6 messages\n",
    "call_a_tool": "weather('Paris')\nIt is 21 degrees in Paris.\n",
    "fallback": (
        "The second one says this.\n"
        "because of the first: the service reported an error: overloaded (server_error)\n"
    ),
    "latest_prompt_wins": "Rome was not built ... enough!\nParis is well worth a mass.\n",
    "moderate": "One, two, [...], four, five.\n",
    "race_two_models": "I am small and quick.\nthe large one was cancelled\n",
    "resume_over_nats": ("one, two, three, ... the answer was stopped, for all its readers\n"),
    "resume_over_redis": "3: three,|4: four,|5: five.|\n",
    "retry_and_resume": (
        "One, two, three, four, five.\ncompleted: 3 requests, 1 of them to continue\n"
    ),
    "sentences": "One, two, three, four, five.\n",
    "share_one_answer": (
        "Cleo read One, two, three, four, five.\nDan continues with  three,  four,  five.\n"
    ),
    "speak": "One, two, three, four, five. \n",
    "voice": (
        "Rome was not built ... enough!\nParis is well worth a mass. \n"
        "user: 'Tell me about Rome.'\nassistant: 'Rome was not built'\n"
    ),
    "structured": "Crê []\nCrêpes ['flour']\nCrêpes ['flour', 'milk']\n",
    "print_tokens": "One, two, three, four, five.\n",
    "print_tokens_async": "Write a haiku about threads. ' five.'\n",
    "subscribe": "that was all\n",  # "asked" is printed at any moment before that
    "replay_a_recording": "Bonjour, monde\n",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_prints_the_expected_output(
    path: Path,
    service: ScriptedServer,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if path.stem.startswith("resume_over_"):
        broker = path.stem.removeprefix("resume_over_")
        url = request.getfixturevalue(broker).url
        monkeypatch.setenv(f"{broker.upper()}_URL", url)
    runpy.run_path(str(path), run_name="__main__")
    wait_for_readers()
    assert EXPECTED[path.stem] in capsys.readouterr().out


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_example_has_a_test_of_its_own(name: str) -> None:
    assert (ROOT / "examples" / f"{name}.py").exists()
    assert f"{name}.py" in (ROOT / "tests" / ELSEWHERE[name]).read_text(encoding="utf-8")


def test_nats_example_ends_when_the_answer_ends_first(
    nats: Broker,
    service: ScriptedServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = ScriptedServer([steps.role(), "one, ", "two.", steps.finish(), steps.done()])
    monkeypatch.setenv("NATS_URL", nats.url)
    with short as server:
        monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
        runpy.run_path(str(ROOT / "examples" / "resume_over_nats.py"), run_name="__main__")
        wait_for_readers()
    assert capsys.readouterr().out == "one, two."


def test_replay_example_sends_no_request(
    service: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(ROOT / "examples" / "replay_a_recording.py"), run_name="__main__")
    assert not service.requests
    assert "completion_tokens=4" in capsys.readouterr().out


def test_tool_example_returns_the_result_under_the_call_id(
    service: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(ROOT / "examples" / "call_a_tool.py"), run_name="__main__")
    assert service.requests[1].json["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
                    "id": "call9",
                    "index": 0,
                }
            ],
        },
        {
            "role": "tool",
            "content": "21 degrees in Paris",
            "tool_call_id": "call9",
            "name": "weather",
        },
    ]


def test_agent_example_shows_its_tool_calls(
    service: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(ROOT / "examples" / "agent.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert '  weather returned {"city":"Paris","celsius":21}' in lines
    assert "  book failed: no 1 seats are free in the train 8:15" in lines
    assert [line for line in lines if "trains" in line] == [
        "  trains: asked SNCF",
        "  trains: asked DB",
        "  trains returned Lyon 8:15 - Paris 11:42",
    ]


def test_subscribe_example_receives_the_whole_answer(
    service: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(ROOT / "examples" / "subscribe.py"), run_name="__main__")
    wait_for_readers()
    lines = [line for line in capsys.readouterr().out.splitlines() if line != "asked"]
    assert lines[-2:] == ["28 characters", "that was all"]
