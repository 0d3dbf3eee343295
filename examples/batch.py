"""Ask many prompts, some at a time, and write the answers as JSON Lines, in order.

    python examples/batch.py prompts.txt answers.jsonl --concurrency 8

Each line of the first file is a prompt. An interrupted run can be repeated: it goes on after the
last answer in the second file. Requests that fail are repeated, answers that break are continued,
and if that fails, too, the error is written. Shows a progress bar if rich is installed.
"""

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import reactivex

from rxmistral import Mistral, MistralError, Resume, Retry, Stream, UserMessage


def answers_to(prompts: list[str], client: Mistral, concurrency: int) -> Stream[str]:
    """Returns a Stream of lines, in the order of the prompts."""

    async def ask(prompt: str) -> str:
        message = UserMessage(content=prompt)
        answer = client.chat.stream(model="mistral-small-latest", messages=[message])
        try:
            result = {"prompt": prompt, "answer": await answer.text().join()}
        except MistralError as error:
            result = {"prompt": prompt, "error": str(error)}
        return json.dumps(result, ensure_ascii=False) + "\n"

    return Stream.of(reactivex.from_iterable(prompts)).map_async(ask, concurrency=concurrency)


def number_answered(output: Path) -> int:
    """Returns the number of complete lines; removes one that was written in part."""
    written = output.read_bytes() if output.exists() else b""
    complete = written[: written.rfind(b"\n") + 1]
    if complete != written:
        output.write_bytes(complete)
    return complete.count(b"\n")


def with_progress(lines: Iterable[str], total: int) -> Iterable[str]:
    if find_spec("rich") is not None:
        lines = import_module("rich.progress").track(lines, total=total)
    return lines


def main() -> None:
    parser = ArgumentParser(description="Ask many prompts, some at a time.")
    parser.add_argument("prompts", type=Path, help="a file with a prompt in each line")
    parser.add_argument("output", type=Path, help="a file of JSON Lines, which is continued")
    parser.add_argument("--concurrency", type=int, default=8)
    chosen = parser.parse_args()

    prompts = chosen.prompts.read_text(encoding="utf-8").splitlines()
    left = prompts[number_answered(chosen.output) :]
    with (
        Mistral(retry=Retry(), resume=Resume()) as client,
        chosen.output.open("a", encoding="utf-8") as output,
    ):
        for line in with_progress(answers_to(left, client, chosen.concurrency), len(left)):
            output.write(line)
            output.flush()


if __name__ == "__main__":
    main()
