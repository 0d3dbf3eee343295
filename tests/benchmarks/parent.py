"""The processes of a benchmark: one server, and clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import certifi
import trustme

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

_FILES = TemporaryDirectory(prefix="rxmistral-benchmark-")
_CERTIFICATE = Path(_FILES.name, "server.pem")
_AUTHORITIES = Path(_FILES.name, "authorities.pem")
_TRUST = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(_AUTHORITIES))


class Reader(NamedTuple):
    """A library, and one way to read with it."""

    library: str
    way: str

    def __str__(self) -> str:
        return f"{self.library.replace('_', ' ')}: {self.way}"

    @property
    def installed(self) -> bool:
        return self.library == "hand" or find_spec(self.library) is not None


FACES = ("subscribe", "for", "async for")
HAND = Reader("hand", "loop")
SOCKET = Reader("hand", "socket")
LOOP = Reader("hand", "asyncio")
PEERS = [Reader(name, way) for name in ("mistralai", "openai") for way in ("for", "async for")]
MEGABYTE = 10**6


def ours(*pipes: str) -> list[Reader]:
    return [Reader("rxmistral", f"{face}, {pipe}") for pipe in pipes for face in FACES]


class Size(NamedTuple):
    """How much to measure."""

    chunks: int
    rounds: int
    windows: int  # of a second, in which the paced streams are observed
    megabytes: int  # for a slow consumer
    tokens: int


class Child:
    """A Python process that ends when its stdin is closed."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env or ENVIRONMENT,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a child process ended with {self._process.wait()}")
        return line

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def cpu(self) -> float:
        """Returns the CPU seconds that the process has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class OtherLoad:
    """The CPU that other processes use meanwhile: the more, the less a measurement is worth."""

    def __init__(self, server: Child) -> None:
        self._server = server
        self._began = time.monotonic()
        self._busy, self._own = busy(), self._own_cpu()

    def cores(self) -> float:
        """Returns the average number of cores. Clients that still run count as others."""
        other_seconds = busy() - self._busy - (self._own_cpu() - self._own)
        return max(0.0, other_seconds / (time.monotonic() - self._began))

    def _own_cpu(self) -> float:
        return sum(os.times()[:4]) + self._server.cpu()


def busy() -> float:
    """Returns the CPU seconds that all cores have used, or that were stolen from this machine."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


class Client(Child):
    """A process that reads in one way, and measures itself; see `client.py`.

    It trusts the server's authority by the environment variables of OpenSSL and requests.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(str(HERE / "client.py"), *reader, env=ENVIRONMENT | _TRUST)

    def measure(self, name: str, **arguments: Any) -> dict[str, Any]:
        self.write(json.dumps([name, arguments]))
        results: dict[str, Any] = json.loads(self.line())
        return results


class Server(Child):
    """The process that answers; see `server.py`."""

    def __init__(self) -> None:
        issue_certificate()
        super().__init__(str(HERE / "server.py"), str(_CERTIFICATE))
        port, tls_port = self.line().split()
        self._urls = (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}")

    def paced(self, *, tls: bool = False) -> str:
        return f"{self._urls[tls]}/paced"

    def burst(self, count: int, size: int = 0, *, tls: bool = False) -> str:
        return f"{self._urls[tls]}/burst/{count}/{size}"


def issue_certificate() -> None:
    """Issues the server's certificate. Clients trust its authority besides the usual ones: their
    number is part of the cost of a connection."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(_CERTIFICATE))
    _AUTHORITIES.write_text(certifi.contents())
    authority.cert_pem.write_to_path(str(_AUTHORITIES), append=True)


@contextmanager
def clients(readers: list[Reader]) -> Iterator[dict[Reader, Client]]:
    """Starts a client for each installed reader; it is idle while another works."""
    with ExitStack() as stack:
        yield {
            reader: stack.enter_context(Client(reader)) for reader in readers if reader.installed
        }
