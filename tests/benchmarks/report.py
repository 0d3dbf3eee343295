"""Tables of measurements, and the bars that they must meet."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple

from parent import HERE

Rows = dict[str, dict[str, Any]]


def named(name: object, tls: bool = False) -> str:
    """Returns the name of a row or a bar."""
    return f"{name}, TLS" if tls else str(name)


class Bar(NamedTuple):
    name: str
    measured: float | None  # None: the reader fell behind
    most: float  # the least, if at_least
    at_least: bool = False

    @property
    def kept(self) -> bool:
        if self.measured is None:
            return False
        return self.measured >= self.most if self.at_least else self.measured <= self.most


_NAMES = 24  # of modules; all are in the JSON


def show(name: str, rows: Rows) -> None:
    titles = list(dict.fromkeys(title for row in rows.values() for title in row))
    wide = max(map(len, rows)) + 1
    columns = [title for title in titles if title != "names"]
    print(f"\n{name:{wide}}", *(f"{title:>{_width(title)}}" for title in columns))
    for row_name, row in rows.items():
        cells = (f"{_cell(row.get(title)):>{_width(title)}}" for title in columns)
        print(f"{row_name:{wide}}", *cells, flush=True)
    for row_name, row in rows.items():
        if row.get("names"):
            print(f"{row_name}:", ", ".join(row["names"][:_NAMES]), "...")


def _width(title: str) -> int:
    return max(9, len(title) + 1)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def show_bars(bars: list[Bar]) -> None:
    print(f"\n{'bars':75} {'measured':>9} {'wanted':>9}")
    for bar in bars:
        wanted = f"{'>=' if bar.at_least else '<='} {bar.most:g}"
        kept = "" if bar.kept else "   NOT KEPT"
        measured = "behind" if bar.measured is None else _cell(bar.measured)
        print(f"{bar.name:75} {measured:>9} {wanted:>9}{kept}")


def machine() -> dict[str, Any]:
    names = ("rxmistral", "reactivex", "requests", "urllib3", "msgspec", "mistralai", "openai")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "revision": _revision(),
        "versions": {name: _version(name) for name in names},
    }


def _revision() -> str | None:
    """Returns the revision, with "+" if the working tree, which is measured, has changes."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+"]
    try:
        return subprocess.run(
            command, check=True, stdout=PIPE, stderr=DEVNULL, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # not a clone


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
