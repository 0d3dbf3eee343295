"""Connections of the logs: TLS is enforced, clusters are refused, state is dropped."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import reactivex
import trustme
from brokers import Nats, nats_server
from faces import BOUND, Face, eventually
from reactivex import Subject

from rxmistral import FencedError, LogError, StoppedError, Stream, from_log, to_log
from rxmistral.logs import jetstream
from rxmistral.logs.encoding import encode_ending, encode_item
from rxmistral.logs.jetstream import NatsLog
from rxmistral.logs.redis_streams import RedisLog

needs_nats = pytest.mark.skipif(not nats_server(), reason="nats-server is not installed")


# --- TLS -------------------------------------------------------------------------


class PlainServer:
    """Greets each client, answers with a function, and records the bytes it receives."""

    def __init__(self, greeting: bytes, answer: Callable[[bytes], bytes]) -> None:
        self._greeting = greeting
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.received = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(self._greeting)
        while block := connection.recv(65536):
            self.received += block
            if block.startswith(b"\x16"):  # RFC 8446, 5.1: a handshake
                break
            connection.sendall(self._answer(block))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(BOUND)


@contextmanager
def plain_server(
    greeting: bytes | None = None, answer: Callable[[bytes], bytes] = lambda _: b"", **info: Any
) -> Iterator[PlainServer]:
    """Starts a server without TLS; by default it greets as NATS does, with this INFO."""
    info_json = json.dumps({"max_payload": 1024, **info}).encode()
    server = PlainServer(b"INFO %b\r\n" % info_json if greeting is None else greeting, answer)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("user", ["user:pa55word@", "t0ken@", ""])
@pytest.mark.parametrize("info", [{}, {"auth_required": True}, {"tls_required": False}])
def test_tls_url_sends_nothing_to_a_server_without_tls(
    user: str, info: dict[str, Any], read: Face
) -> None:
    with (
        plain_server(**info) as server,
        NatsLog(f"tls://{user}127.0.0.1:{server.port}", outage=1) as log,
    ):
        *_, failed = read(from_log(log, "run"))
        with pytest.raises(LogError, match="has no TLS"):
            log.stop("run")
    assert type(failed) is LogError
    assert "has no TLS" in str(failed)
    assert "pa55word" not in str(failed)
    assert server.received == b""


@pytest.mark.parametrize("info", [{"tls_available": True}, {"tls_required": True}])
def test_tls_url_uses_tls_that_the_server_offers(info: dict[str, Any]) -> None:
    with (
        plain_server(**info, auth_required=True) as server,
        NatsLog(f"tls://user:pa55word@127.0.0.1:{server.port}", outage=0.1) as log,
        pytest.raises(LogError),
    ):
        log.stop("run")
    assert server.received[:1] == b"\x16"
    assert b"pa55word" not in server.received


class TlsNats(Nats):
    """A NATS server that requires TLS, a user and a password."""

    def command(self) -> list[str]:
        authority = trustme.CA()
        (certificate, key, trusted) = (self.directory / name for name in ("cert", "key", "ca"))
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        authority.cert_pem.write_to_path(trusted)
        return [
            *super().command(),
            *("--tls", "--tlscert", str(certificate), "--tlskey", str(key)),
            *("--user", "user", "--pass", "pa55word"),
        ]


@needs_nats
@pytest.mark.parametrize("scheme", ["tls", "nats"])
def test_nats_over_tls_is_written_and_read(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = TlsNats(tmp_path / "nats")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nats" / "ca"))
    try:
        with NatsLog(f"{scheme}://user:pa55word@127.0.0.1:{broker.port}") as log:
            assert list(reactivex.of("a", "b").pipe(to_log(log, "run"))) == ["a", "b"]
            assert list(from_log(log, "run")) == ["a", "b"]
    finally:
        broker.kill()


def test_rediss_url_sends_no_password_to_a_server_without_tls() -> None:
    with (
        plain_server() as server,
        RedisLog(f"rediss://user:pa55word@127.0.0.1:{server.port}", outage=0.1) as log,
        pytest.raises(LogError),
    ):
        log.stop("run")
    assert b"pa55word" not in server.received


@pytest.mark.parametrize("scheme", ["TLS", "http", "nats+tls", "redis"])
def test_unknown_scheme_of_nats_is_refused_at_the_call(scheme: str) -> None:
    with pytest.raises(ValueError, match="url must begin with") as raised:
        NatsLog(f"{scheme}://user:pa55word@host")
    assert "pa55word" not in str(raised.value)


# --- a cluster -------------------------------------------------------------------


REMEDY = "give the url of a single Redis"
ANSWERS = [
    "MOVED 8913 127.0.0.1:53829",
    "ASK 8913 127.0.0.1:53829",
    "CLUSTERDOWN Hash slot not served",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CROSSSLOT Keys in request don't hash to the same slot",
]


@pytest.fixture(params=ANSWERS, ids=lambda answer: answer.split()[0])
def node_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A node of a cluster, to which the keys do not belong."""

    def answer(block: bytes) -> bytes:
        return b"-%b\r\n" % request.param.encode() * len(re.findall(rb"^\*\d+\r$", block, re.M))

    with plain_server(greeting=b"", answer=answer) as server:
        yield f"redis://127.0.0.1:{server.port}"


def test_redis_cluster_is_refused_with_a_remedy(node_url: str, read: Face) -> None:
    with RedisLog(node_url, outage=1) as log:
        answer = Stream.of(reactivex.of("a")).pipe(to_log(log, "run"))
        for failed in (read(answer)[-1], read(from_log(log, "run"))[-1]):
            assert type(failed) is LogError
            assert str(failed).endswith("with or without replicas")
            assert REMEDY in str(failed)
            assert "53829" not in str(failed)
        with pytest.raises(LogError, match=REMEDY):
            log.stop("run")


# --- state in memory -------------------------------------------------------------

ITEM = encode_item("a")


@pytest.fixture
def nats_log(brokers: Callable[[str], Nats]) -> Iterator[NatsLog]:
    if not nats_server():
        pytest.skip("nats-server is not installed")
    with NatsLog(brokers("nats").url, name="kept", lease=0.3) as log:
        yield log


def test_nats_state_is_dropped_when_the_run_was_stopped(nats_log: NatsLog) -> None:
    for number in range(3):
        source: Subject[str] = Subject()
        ended: list[Exception] = []
        run = f"stopped{number}"
        Stream.of(source).pipe(to_log(nats_log, run)).subscribe(on_error=ended.append)
        assert eventually(lambda source=source: bool(source.observers))
        source.on_next("a")
        assert eventually(lambda: bool(nats_log._states))
        nats_log.stop(run)
        assert eventually(lambda ended=ended: bool(ended))
        assert isinstance(ended[0], StoppedError)
    assert nats_log._states == {}


def test_nats_state_is_dropped_when_the_producer_was_fenced(nats_log: NatsLog) -> None:
    nats_log.begin("fenced", "one")
    nats_log.append("fenced", "one", 1, [ITEM])
    assert list(nats_log._states) == ["one"]
    assert eventually(lambda: can_begin(nats_log, "fenced", "two"), 30)
    with pytest.raises(FencedError):
        nats_log.keep("fenced", "one", 0.1)
    assert nats_log._states == {}


def can_begin(log: NatsLog, run: str, token: str) -> bool:
    try:
        log.begin(run, token, 1)
    except FencedError:
        return False
    return True


def test_nats_state_is_dropped_when_the_run_has_ended(nats_log: NatsLog) -> None:
    assert list(reactivex.of("a", "b").pipe(to_log(nats_log, "ended"))) == ["a", "b"]
    nats_log.begin("by hand", "one")
    nats_log.append("by hand", "one", 1, [ITEM])
    nats_log.append("by hand", "one", 2, [], encode_ending(None))
    assert nats_log._states == {}


def test_nats_state_stays_dropped_when_an_append_ends_late(
    nats_log: NatsLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat is refused during an append that the server had accepted before."""
    nats_log.begin("late", "one")
    nats_log.append("late", "one", 1, [ITEM])
    write = jetstream._JetStreamRun.write

    async def refused_meanwhile(*arguments: Any) -> int:
        sequence = await write(*arguments)
        nats_log._states.pop("one")
        return sequence

    monkeypatch.setattr(jetstream._JetStreamRun, "write", refused_meanwhile)
    nats_log.append("late", "one", 2, [ITEM])
    assert nats_log._states == {}
