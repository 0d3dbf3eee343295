"""Measures the cold start: from the start of the process to the first token, and imports."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from parent import ENVIRONMENT, Reader, Server, Size
from report import Bar, Rows

# Everything is compiled once, in the first run, as an installer does it: wherever the modules are,
# and even if this environment does not let Python write compiled files.
_COMPILED = TemporaryDirectory(prefix="rxmistral-benchmark-")
_ENVIRONMENT = ENVIRONMENT | {"PYTHONPYCACHEPREFIX": _COMPILED.name, "PYTHONDONTWRITEBYTECODE": ""}

DEPENDENCIES = ("reactivex", "requests", "msgspec")

# Each ends with the first token, and imports only what a program would import.
ASK = 'model="mistral-small-latest", messages=[{"role": "user", "content": "Hi."}]'
SCRIPTS = {
    Reader("hand", "socket"): """
import socket
s = socket.create_connection(("127.0.0.1", PORT))
s.sendall(b"POST PATH/v1/chat/completions HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
received = b""
while b'"content":"' not in received:
    received += s.recv(65536)
""",
    Reader("rxmistral", "for"): f"""
from rxmistral import Mistral, text
for token in Mistral(server_url="URL").chat.stream({ASK}).pipe(text()):
    break
""",
    Reader("mistralai", "for"): f"""
from mistralai.client import Mistral
for event in Mistral(api_key="key", server_url="URL").chat.stream({ASK}):
    token = event.data.choices[0].delta.content
    break
""",
    Reader("openai", "for"): f"""
from openai import OpenAI
for chunk in OpenAI(api_key="key", base_url="URL/v1").chat.completions.create({ASK}, stream=True):
    token = chunk.choices[0].delta.content
    break
""",
}
PRINT_TIME = "\nimport os, time\nprint(time.monotonic_ns(), flush=True)\nos._exit(0)\n"


def to_first_token(url: str, runs: int) -> dict[str, dict[str, Any]]:
    """Measures milliseconds; the readers alternate, so that all run on the same machine."""
    installed = [reader for reader in SCRIPTS if reader.installed]
    times: dict[Reader, list[float]] = {reader: [] for reader in installed}
    for _ in range(runs + 1):
        for reader in installed:
            times[reader].append(_once(_filled(SCRIPTS[reader], url)))
    return {
        str(reader): {"best ms": min(each[1:]), "median ms": statistics.median(each[1:])}
        for reader, each in times.items()  # the first run may have compiled modules
    }


def _filled(script: str, url: str) -> str:
    parts = urlsplit(url)
    return script.replace("URL", url).replace("PORT", str(parts.port)).replace("PATH", parts.path)


def _once(script: str) -> float:
    begin = time.monotonic_ns()
    return (int(_output(script + PRINT_TIME)) - begin) / 1e6


def _output(script: str, *options: str) -> str:
    command = [sys.executable, *options, "-c", script]
    return subprocess.run(
        command, env=_ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


# --- imports ---------------------------------------------------------------------

IMPORT_EACH = """
import sys, time
spent = []
for name in NAMES:
    modules, begin = len(sys.modules), time.perf_counter()
    __import__(name)
    spent.append((name, (time.perf_counter() - begin) * 1e3, len(sys.modules) - modules))
import json
print(json.dumps(spent))
"""


def imports(runs: int) -> dict[str, dict[str, Any]]:
    """Measures milliseconds for each dependency, and for rxmistral once they are imported."""
    names = (*DEPENDENCIES, "rxmistral")
    script = IMPORT_EACH.replace("NAMES", repr(names))
    spent = [json.loads(_output(script)) for _ in range(runs)]
    return {
        f"import {name}": {
            "best ms": min(run[at][1] for run in spent),
            "median ms": statistics.median(run[at][1] for run in spent),
            "modules": spent[0][at][2],
        }
        for at, name in enumerate(names)
    }


# Finds the modules of which a function runs between the import and the first token. Uses of types
# and constants cannot be seen, nor all uses of C extensions.
WATCH = """
import sys
builtin = set(sys.modules)
import reactivex, requests, msgspec
below = set(sys.modules)
import rxmistral
loaded, ran = set(sys.modules), set()
def note(frame, event, argument):
    if event == "c_call":
        owner = getattr(argument, "__self__", None)
        name = argument.__module__ or type(owner).__module__
        ran.add(owner.__name__ if type(owner) is type(sys) else name)
    else:
        ran.add(frame.f_globals.get("__name__", ""))  # code of a template has none
import threading
threading.setprofile(note)
sys.setprofile(note)
from rxmistral import Mistral, text
for token in Mistral(server_url="URL").chat.stream(ASK).pipe(text()):
    break
sys.setprofile(None)
threading.setprofile(None)
late = set(sys.modules) - loaded
import json
print(json.dumps([sorted(each) for each in (below - builtin, loaded - below, ran, late)]))
"""


def unused(url: str) -> dict[str, dict[str, Any]]:
    """Returns the modules of which no function runs until the first token, with the milliseconds
    that each takes to import by itself, slowest first."""
    script = _filled(WATCH.replace("ASK", ASK), url)
    below, ours, ran, late = json.loads(_output(script))
    spent = _import_times()
    return {
        "of rxmistral": _idle((name for name in ours if _is_ours(name)), ran, spent),
        "loaded by rxmistral alone": _idle(
            (name for name in ours if not _is_ours(name)), ran, spent
        ),
        "loaded by its dependencies": _idle(below, ran, spent),
        "loaded by the first request": {name: spent.get(name, 0.0) for name in late},
    }


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "rxmistral"


def _idle(names: Iterable[str], ran: list[str], spent: dict[str, float]) -> dict[str, float]:
    idle = {
        name: spent.get(name, 0.0)
        for name in names
        if name not in ran and not name.startswith("requests.packages.")  # second names
    }
    return dict(sorted(idle.items(), key=lambda item: -item[1]))


def _import_times(runs: int = 3) -> dict[str, float]:
    """Returns the milliseconds that each module takes by itself, from `python -X importtime`; the
    best of several runs."""
    script = "import " + ", ".join(DEPENDENCIES) + "; import rxmistral"
    command = [sys.executable, "-X", "importtime", "-c", script]
    least: dict[str, float] = {}
    for _ in range(runs):
        report = subprocess.run(
            command, env=_ENVIRONMENT, check=True, stderr=subprocess.PIPE, text=True
        ).stderr
        for line in report.splitlines()[1:]:
            own, _, name = line.removeprefix("import time:").split("|")
            spent = int(own) / 1e3 if own.strip().isdigit() else 0.0
            least[name.strip()] = min(spent, least.get(name.strip(), spent))
    return least


# --- the part of `streams.py` ------------------------------------------------------


def cold(server: Server, size: Size) -> Rows:
    url = server.burst(20)
    return to_first_token(url, size.rounds) | imports(size.rounds) | _unused(url)


def _unused(url: str) -> Rows:
    return {
        f"unused, {title}": {
            "best ms": sum(names.values()),
            "modules": len(names),
            "names": [f"{name} {spent:.1f}" for name, spent in names.items()],
        }
        for title, names in unused(url).items()
    }


def cold_bars(rows: Rows) -> list[Bar]:
    theirs = rows.get("mistralai: for")
    if theirs is None:
        return []
    ours = rows["rxmistral: for"]
    return [Bar("cold start: of mistralai's", ours["best ms"] / theirs["best ms"], 0.5)]
