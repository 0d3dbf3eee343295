"""The embedded demo server, which sends scripted answers over a socket, without a key or a model."""

from __future__ import annotations

import os
import re
from weakref import finalize

from .testing import ReceivedRequest, Script, ScriptedServer, steps

__all__ = ["EmbeddedServer", "demo_server"]

_SECONDS_PER_TOKEN = 0.02
_THINKING_TEXT = """\
Nobody gave me a key. So: short waves, long waves, and first of all, what I am.\
"""
_ANSWER_TEXT = """\
I am the demo server inside rxmistral, so I cannot know; but I can show you how an answer \
arrives. Each of these words left a local server as a Server-Sent Event, crossed a socket, \
and became an item of an Observable before it was printed.

As for the sky: air scatters short waves of light far more than long ones, so blue reaches \
you from every direction; at sunset, when the light travels farthest through the air, red \
is left.

Set MISTRAL_API_KEY, and a model answers instead of me, in the command and in Mistral().
"""
_COUNT = ["One,", " two,", " three,", " four,", " five."]
_RECIPE = """\
{"title": "Crê|pes", "ingredients": [{"name": "flour", "grams": 250}|, {"name": "milk", |\
"grams": 500}], "vegan": false}\
"""
_MARKDOWN = """\
# Markdown, as it arrives

A model writes *emphasis*, **more of it**, `code`, ~~mistakes~~ and \
[links](https://docs.mistral.ai/ "Mistral"). Tags, such as <b>this one</b>, are text.

1. Lists have numbers,
2. or points:
   - one
   - two

> Quotes are **indented**.

```python
for token in answer.text():
    print(token, end="")
```

| item | what it is |
| --- | :-: |
| text | a string |
| part | a typed piece of one answer |
"""
_ANSWERS: dict[str, Script] = {
    "Count to five.": [*_COUNT],
    "Count forever.": ["one, ", "two, ", "three, ", steps.hang()],
    "Say hello.": ["Hel", "lo"],
    "Fail.": ["One, two, th", steps.drop()],
    "Give me a recipe for crêpes.": [*_RECIPE.split("|")],
    "Show me Markdown.": [*re.findall(r"\S+\s*", _MARKDOWN)],
}
_PATH = "/v1/chat/completions"


def demo_server(port: int = 0) -> ScriptedServer:
    """Returns a server that streams an answer to any prompt, at the pace of a model.

    A few prompts have special answers; `Mistral.demo` lists them.

    Args:
        port: The TCP port of 127.0.0.1 to listen on. 0: a free port.
    """
    return ScriptedServer(_answer, model="demo", port=port)


class EmbeddedServer:
    """A demo server that is closed with the last reference to this object, or at the exit."""

    def __init__(self) -> None:
        self._server = demo_server().start()
        self._process = os.getpid()
        self.url = self._server.url
        finalize(self, _abandon, self._server, self._process)

    def close(self) -> None:
        """Closes the server and waits for its threads; may be called again."""
        if os.getpid() == self._process:  # a forked child must not close its parent's server
            self._server.close()


def _abandon(server: ScriptedServer, process: int) -> None:
    if os.getpid() == process:
        server.begin_to_close()


def _answer(request: ReceivedRequest) -> Script:
    if (request.method, request.path) != ("POST", _PATH):
        return _refused(404, f"the demo server answers POST {_PATH} and nothing else")
    try:
        messages = request.json["messages"]
        declared = request.json.get("tools") or ()
        tools = [each["function"]["name"] for each in declared if "function" in each]
    except (KeyError, TypeError, ValueError):
        return _refused(422, "the body is not a JSON object with messages")
    match messages:
        case [*_, {"role": "assistant", "prefix": True, "content": "One, two, th"}]:
            tokens: Script = ["ree, four, five."]
        case [*_, {"role": "tool", "content": str(result)}]:
            tokens = _words(f"A tool answered: {result}")
        case [*_, {"content": str(prompt)}] if prompt in _ANSWERS:
            tokens = _ANSWERS[prompt]
        case [*_, {"content": "What time is it?"}] if tools:
            tokens = _calls(tools[:1])
        case [*_, {"content": "Use your tools."}] if tools:
            tokens = _calls(tools)
        case _:
            tokens = [*map(steps.thinking, _words(_THINKING_TEXT)), *_words(_ANSWER_TEXT)]
    return _paced(tokens, len(request.body) // 4)


def _refused(code: int, detail: str) -> Script:
    return [steps.status(code, body={"detail": detail})]


def _paced(tokens: Script, prompt_tokens: int) -> Script:
    script: list[steps.Step | str] = [steps.role()]
    for token in tokens:
        script += (steps.wait(_SECONDS_PER_TOKEN), token)
    if not isinstance(tokens[-1], steps.ActionStep):  # otherwise the answer does not complete
        reason = "stop" if isinstance(tokens[-1], str) else "tool_calls"
        script += (steps.finish(reason, usage=(prompt_tokens, len(tokens))), steps.done())
    return script


def _calls(names: list[str]) -> Script:
    """Returns a call of each tool, without arguments."""
    return [
        steps.tool_call(
            id=f"demo{number:05}", name=name, arguments="{}"
        )  # 9 characters, as Mistral's
        for number, name in enumerate(names)
    ]


def _words(text: str) -> list[str]:
    """Returns the words of a text, each with the white space before it."""
    return re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", text)
