"""`scripted_client`: a client without sockets, whose answers are scripts."""

from __future__ import annotations

from typing import Unpack

from ..chat.client import Mistral
from ..chat.settings import ClientOptions
from .received import ReceivedRequest
from .scripted_source import ScriptedSource, ScriptFunction
from .steps import Script

__all__ = ["ScriptedClient", "scripted_client"]


class ScriptedClient(Mistral):
    """A `Mistral` without sockets; `scripted_client` returns it."""

    _source: ScriptedSource

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests so far, in the order in which they were sent.

        Their times are seconds of the scheduler.
        """
        return self._source.requests


def scripted_client(
    *scripts: Script | ScriptFunction, **options: Unpack[ClientOptions]
) -> ScriptedClient:
    """Returns a client that answers its requests with scripts, one for each, without a socket.

    Timeouts, retries, limits and the waits of the scripts are timers on its scheduler. With virtual
    time, subscribe to an answer, and then start the scheduler; a loop or `run()` would wait for
    a scheduler that nothing advances. Virtual time does not pass while the tools of a run work.

    Not everything follows the scheduler. An operator that measures time, such as `sentences(max_wait=1)`, needs
    the scheduler as an argument of `subscribe`. The second reader of a `with` block, and viewers of
    `shared()`, receive on another thread, and `linger` is real time. There is no connection, so
    `Timeouts(connect=...)` never expires, and a redirect is a refusal. If more than 100 timers expire
    at one moment, `start()` of reactivex 6.1 moves its clock; `advance_by(seconds)` does not.

    Args:
        scripts: The scripts (see `rxmistral.testing.steps`), or functions that receive the
            request and return one. A single function answers all requests.
        **options: The arguments of `Mistral`; a `scheduler` of None is real time.

    Raises:
        TypeError, ValueError: A script cannot be played, or an option cannot be used.

    >>> from reactivex.scheduler import VirtualTimeScheduler
    >>> from rxmistral import Retry, Timeouts, UserMessage, text
    >>> from rxmistral.testing import finish, hang, scripted_client
    >>> scheduler = VirtualTimeScheduler()
    >>> client = scripted_client(
    ...     [hang()],
    ...     ["Hello", finish()],
    ...     scheduler=scheduler,
    ...     timeouts=Timeouts(first=60),
    ...     retry=Retry(initial=30, maximum=30, jitter=0),
    ... )
    >>> answer = client.chat.stream(model="any", messages=[UserMessage(content="Hi")])
    >>> _ = answer.text().subscribe(print)
    >>> scheduler.start()
    Hello
    >>> [request.received for request in client.requests]
    [0.0, 90.0]
    """
    source = ScriptedSource(scripts, options.get("scheduler"))
    options.setdefault("api_key", "scripted-key")  # not the key in the environment
    client = ScriptedClient(server_url="http://localhost", **options)
    client._source = source
    client._open_blocks = source.open_blocks
    return client
