"""The embedded demo server: a real answer over a real socket, with no key and no model."""

from __future__ import annotations

import re

from .testing import ReceivedRequest, Script, ScriptedServer, steps

__all__ = ["demo_server"]

_SECONDS_A_TOKEN = 0.02
_THOUGHT = """\
Nobody gave me a key. Well: short waves, long waves, and first of all who I am.\
"""
_ANSWER = """\
I am the demo server inside rxmistral, so I cannot know; but I can show you how an answer \
arrives. Each of these words left a local server as a Server-Sent Event, crossed a socket, \
and became an item of an Observable before it was printed.

As for the sky: air scatters short waves of light far more than long ones, so blue reaches \
you from every direction, and at sunset, when the light has the longest way, red is what is \
left.

Set MISTRAL_API_KEY, and a model answers instead of me.
"""


def demo_server() -> ScriptedServer:
    """A server that gives every prompt the same answer, at the pace of a model."""
    return ScriptedServer(_answer, model="demo")


def _answer(request: ReceivedRequest) -> Script:
    tokens = [*map(steps.thinking, _words(_THOUGHT)), *map(steps.text, _words(_ANSWER))]
    script: list[steps.Step] = [steps.role()]
    for token in tokens:
        script += (steps.wait(_SECONDS_A_TOKEN), token)
    usage = (len(request.body) // 4, len(tokens))
    return [*script, steps.finish(usage=usage), steps.done()]


def _words(text: str) -> list[str]:
    """With the white space before them."""
    return re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", text)
