"""A process on a terminal of its own, as a user starts it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from faces import BOUND, eventually

COMMAND = [sys.executable, "-m", "rxmistral"]


class Terminal:
    """The command on a terminal, whose keys it presses and whose output it reads.

    Args:
        *arguments: The arguments of the command.
        command: The command itself.
        columns: The width of the terminal.
        rows: The height of the terminal.
        **environment: Variables that are changed or added.
    """

    def __init__(
        self,
        *arguments: str,
        command: list[str] = COMMAND,
        columns: int = 80,
        rows: int = 24,
        **environment: str,
    ) -> None:
        import fcntl  # these do not exist on Windows
        import pty
        import termios

        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MISTRAL_")}
        # Starts a session, whose controlling terminal is its stdin, so that Ctrl-C is a signal.
        start = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        start += "os.execv(sys.argv[1], sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, *command, *arguments],
            stdin=its, stdout=its, stderr=its,
            start_new_session=True,
            env={**inherited, "TERM": "xterm", "INPUTRC": os.devnull,
                 "PYTHONIOENCODING": "utf-8", **environment},
        )  # fmt: skip
        os.close(its)
        self._unread = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.wait(BOUND)
        os.close(self._ours)

    def press(self, keys: str | bytes) -> None:
        os.write(self._ours, keys.encode() if isinstance(keys, str) else keys)

    def enter(self, line: str) -> None:
        self.press(line + "\r")

    def press_ctrl_c(self) -> None:
        """Presses Ctrl-C when the process waits: `input` misses a signal shortly before that."""
        status = Path(f"/proc/{self.process.pid}/stat")
        if status.exists():
            assert eventually(lambda: status.read_text().rpartition(") ")[2].startswith("S"))
        self.press("\x03")

    def read_until(self, expected: str) -> str:
        """Returns the output up to and including a text."""
        while expected not in self._unread:
            block = self._read()
            assert block, f"{expected!r} is not in {self._unread!r}"
            self._unread += block
        output, found, self._unread = self._unread.partition(expected)
        return output + found

    def read_to_end(self) -> tuple[str, int]:
        """Returns the remaining output and the exit code."""
        while block := self._read():
            self._unread += block
        return self._unread, self.process.wait(BOUND)

    def _read(self) -> str:
        try:
            # Characters of several bytes arrive in one block, as they were written in one.
            return os.read(self._ours, 65536).decode(errors="replace").replace("\r\n", "\n")
        except OSError:  # EIO: the process has ended
            return ""
