"""Deploy rxmistral: processes, web servers, proxies, context variables, threads, notebooks.

Runs without a key: python examples/deployment.py

Processes and forks (gunicorn, uWSGI, multiprocessing)
    Create one client per program, at import if you like. After a fork the child uses neither the
    connections nor the threads of its parent, so a client that was created before the fork
    (`gunicorn --preload`) works in parent and child. An answer that the parent is reading ends
    in the child with `DroppedStreamError`.
    A synchronous worker serves one stream at a time: use threads, `gunicorn --worker-class
    gthread --threads 100`, or an ASGI server. A run that one process shares is unknown to the
    others: with several workers put it into a log (rxmistral/logs/__init__.py).

Proxies and middleware in front of your application
    `SSE_HEADERS` asks them not to buffer or compress: `Cache-Control: no-transform` and
    `X-Accel-Buffering: no`, for nginx. A compressing middleware of your own application delays
    tokens until its buffer is full: exclude `text/event-stream` from it. The heartbeat (15 s)
    must be shorter than the proxy's idle timeout (nginx: `proxy_read_timeout`, 60 s), and also
    detects clients that are gone. A browser opens six connections per host over HTTP/1.1, and an
    EventSource occupies one: serve many tabs over HTTP/2.

Proxies and certificates between you and the service
    The proxies of the environment are used, except for addresses of this machine.
    `Mistral(session=...)` borrows a `requests.Session` with its proxies, certificates, hooks and
    adapters, and leaves it unchanged. Its `auth` is sent if there is no `api_key`. Your own
    certificate authority belongs into `session.verify` or REQUESTS_CA_BUNDLE: requests does not
    read SSL_CERT_FILE.

Threads
    One thread reads all answers, a thousand if need be, and runs the operators and callbacks of
    `subscribe`. A callback that blocks delays the others by about 0.15 seconds; they then
    continue on another thread. A callback that is slow again and again moves to a thread of its
    own. With `Mistral(reader="thread")`, the default on Windows, each answer has its own thread.
    `async for` and `await` read on the program's event loop: there the operators run on it, too,
    so a slow one delays the loop. The first reader within `with answer:` is served as without it;
    further ones are served by one more thread.

Context variables
    Callbacks, operators, hooks and key functions run in a copy of the subscriber's context. A
    shared run has the context of its first subscriber.

Event loops and notebooks
    A Stream belongs to no event loop: create it in one, read it in another. `async for`, `await`,
    `asyncio.timeout`, `TaskGroup` and `task.cancel()` work, and leaving closes the socket, also
    before the headers. In a notebook `await stream` and `async for` work at the top level of a
    cell; interrupting the kernel stops a `for` loop and closes its connection.

Other servers (vLLM, llama.cpp, Ollama, gateways)
    `server_url` may end in `/v1` or not. A server on this machine needs no key. Reasoning in
    `reasoning_content` or `reasoning` is thinking, keep-alive events of any kind are skipped, a
    whole answer may arrive as a `message`, and a field of a wrong type is None and costs no text.
    A server that sends neither a finish_reason nor `[DONE]` needs `accept_clean_end=True`.

Tests
    `rxmistral.testing` scripts servers and answers, records and replays, and has fixtures for
    pytest. freezegun does not stop a timeout: it counts real seconds.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import requests

from rxmistral import Mistral, UserMessage
from rxmistral.relay import SSE_HEADERS, server_sent_events

session = requests.Session()
session.headers["X-Application"] = "deployment"  # or proxies, verify, cert, adapters, hooks

user: ContextVar[str] = ContextVar("user", default="nobody")


def key_of_user() -> str:
    """Returns the API key for a request; called before each, in the subscriber's context."""
    print(f"the key of {user.get()}")
    return "a-key-from-your-vault"


client = Mistral.demo(api_key=key_of_user, session=session)  # or Mistral(...)


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """A WSGI application: gunicorn --worker-class gthread --threads 100 deployment:application."""
    user.set(environ["REMOTE_USER"])
    answer = client.chat.stream(
        model="mistral-small-latest", messages=[UserMessage(content="Say hello.")]
    )
    start_response("200 OK", list(SSE_HEADERS.items()))
    # A WSGI server detects that a client is gone when it sends something: at the second
    # heartbeat at the latest.
    return server_sent_events(answer.text(), heartbeat=15)


if __name__ == "__main__":
    for chunk in application({"REMOTE_USER": "Ada"}, lambda status, _: print(status)):
        print(chunk.decode(), end="")
