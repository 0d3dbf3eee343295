"""What a log connects to: TLS or nothing, one Redis and no cluster; and what it keeps."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import reactivex
import redis
import trustme
from brokers import Nats, Redis, nats_server, redis_server
from faces import BOUND, Face, eventually
from reactivex import Subject

from rxmistral import FencedError, LogError, StoppedError, Stream, from_log, to_log
from rxmistral.logs.encoding import encode_ending, encode_item
from rxmistral.logs.jetstream import NatsLog
from rxmistral.logs.redis_streams import RedisLog

needs_nats = pytest.mark.skipif(not nats_server(), reason="there is no nats-server here")
needs_redis = pytest.mark.skipif(not redis_server(), reason="there is no redis-server here")


# --- TLS or nothing --------------------------------------------------------------


class PlainServer:
    """Says what a NATS server says first, and notes what a client sends."""

    def __init__(self, **info: Any) -> None:
        self._info = b"INFO %b\r\n" % json.dumps({"max_payload": 1024, **info}).encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.received = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self._info)
                while block := self._next_block(connection):
                    self.received += block

    def _next_block(self, connection: socket.socket) -> bytes:
        try:
            return connection.recv(65536)
        except OSError:
            return b""

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(BOUND)


@contextmanager
def plain_server(**info: Any) -> Iterator[PlainServer]:
    server = PlainServer(**info)
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


def test_tls_url_uses_tls_that_the_server_does_not_require() -> None:
    with (
        plain_server(tls_available=True, auth_required=True) as server,
        NatsLog(f"tls://user:pa55word@127.0.0.1:{server.port}", outage=0.1) as log,
        pytest.raises(LogError),
    ):
        log.stop("run")
    assert server.received[:1] == b"\x16"  # RFC 8446, 5.1: a handshake
    assert b"pa55word" not in server.received


class TlsNats(Nats):
    """A NATS server that wants TLS, a user and a password."""

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
def test_tls_nats_is_written_and_read(
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


class ClusterNode(Redis):
    def command(self) -> list[str]:
        return [*super().command(), "--cluster-enabled", "yes"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[ClusterNode]]:
    """Two nodes of a cluster, each with half of the slots."""
    nodes = [ClusterNode(tmp_path / name) for name in "ab"]
    with ExitStack() as opened:
        for node in nodes:
            opened.callback(node.kill)
        clients: list[Any] = [opened.enter_context(redis.Redis(port=each.port)) for each in nodes]
        for client, slots in zip(clients, [(0, 8191), (8192, 16383)], strict=True):
            client.execute_command("CLUSTER ADDSLOTSRANGE", *slots)
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", nodes[1].port)
        for client in clients:
            assert eventually(
                lambda client=client: client.cluster("INFO")["cluster_state"] == "ok", 30
            )
        yield nodes


SUPPORTED = "give the url of a single Redis"


@needs_redis
def test_cluster_is_refused_in_a_sentence(cluster: list[ClusterNode], read: Face) -> None:
    with RedisLog(cluster[0].url, lease=0.2, outage=1) as log:
        for number in range(20):
            answer = Stream.of(reactivex.of("a")).pipe(to_log(log, f"run{number}"))
            *_, last = [each for each in read(answer) if each is not None]
            if isinstance(last, Exception):
                break
        for failed in (last, read(from_log(log, f"run{number}"))[-1]):
            assert type(failed) is LogError
            assert SUPPORTED in str(failed)
            assert str(cluster[1].port) not in str(failed)


@needs_redis
def test_node_without_slots_is_refused_in_a_sentence(tmp_path: Path) -> None:
    node = ClusterNode(tmp_path / "node")
    try:
        with RedisLog(node.url, outage=1) as log, pytest.raises(LogError, match=SUPPORTED):
            log.stop("run")
    finally:
        node.kill()


# --- what is kept ----------------------------------------------------------------

ITEM = encode_item("a")


@pytest.fixture
def nats_log(brokers: Callable[[str], Nats]) -> Iterator[NatsLog]:
    if not nats_server():
        pytest.skip("there is no nats-server here")
    with NatsLog(brokers("nats").url, name="kept", lease=0.3) as log:
        yield log


def test_nats_keeps_nothing_of_runs_that_were_stopped(nats_log: NatsLog) -> None:
    for number in range(3):
        source: Subject[str] = Subject()
        ended: list[Exception] = []
        run = f"stopped{number}"
        Stream.of(source).pipe(to_log(nats_log, run)).subscribe(on_error=ended.append)
        assert eventually(lambda source=source: bool(source.observers))
        source.on_next("a")
        assert eventually(lambda: bool(nats_log._written))
        nats_log.stop(run)
        assert eventually(lambda ended=ended: bool(ended))
        assert isinstance(ended[0], StoppedError)
    assert nats_log._written == {}


def test_nats_keeps_nothing_of_runs_that_were_fenced(nats_log: NatsLog) -> None:
    nats_log.begin("fenced", "one")
    nats_log.append("fenced", "one", 1, [ITEM])
    assert list(nats_log._written) == ["one"]
    assert eventually(lambda: begins(nats_log, "fenced", "two"), 30)
    with pytest.raises(FencedError):
        nats_log.keep("fenced", "one", 0.1)
    assert nats_log._written == {}


def begins(log: NatsLog, run: str, token: str) -> bool:
    try:
        log.begin(run, token, 1)
    except FencedError:
        return False
    return True


def test_nats_keeps_nothing_of_runs_that_ended(nats_log: NatsLog) -> None:
    assert list(reactivex.of("a", "b").pipe(to_log(nats_log, "ended"))) == ["a", "b"]
    nats_log.begin("by hand", "one")
    nats_log.append("by hand", "one", 1, [ITEM])
    nats_log.append("by hand", "one", 2, [], encode_ending(None))
    assert nats_log._written == {}


def test_nats_append_that_ends_after_a_refusal_keeps_nothing(nats_log: NatsLog) -> None:
    """The keeper is refused while an append is on its way, which had been accepted."""
    nats_log.begin("late", "one")
    nats_log.append("late", "one", 1, [ITEM])
    write = nats_log._write

    async def refused_meanwhile(*arguments: Any) -> int:
        sequence = await write(*arguments)
        nats_log._written.pop("one")
        return sequence

    nats_log._write = refused_meanwhile  # type: ignore[method-assign]
    nats_log.append("late", "one", 2, [ITEM])
    assert nats_log._written == {}
