"""The test kit: answers without a model, recordings, and fixtures for pytest.

    ScriptedServer    a server on the loopback interface that answers as scripted, and misbehaves
    steps             the parts of a script; those of time and ending are also in this module
    answer            a script as a Stream of completions, in virtual time and without a socket
    scripted_client   a client without sockets: its policies, too, are in virtual time
    completion        one item of such a Stream
    record, replay    exchanges with a real server, as a file with the time of each block

A `ScriptedServer` answers over a real socket, in the shape of Mistral's streaming endpoint: it
falls silent, cuts the connection, reports an error in the middle of an answer, or sends bytes that
are not an event stream. It needs neither a key nor a network. Point a client at it
(`server_url=server.url`); afterwards, inspect what the client sent and when it disconnected.

>>> from http.client import HTTPConnection
>>> from rxmistral.testing import ScriptedServer, steps
>>> script = [steps.role(), "Hel", "lo", steps.finish("stop", usage=(3, 2)), steps.done()]
>>> with ScriptedServer(script) as server:
...     connection = HTTPConnection("127.0.0.1", server.port)
...     connection.request("POST", "/v1/chat/completions", b'{"model": "small"}')
...     body = connection.getresponse().read()
...     connection.close()
...     server.requests[0].json["model"], server.requests[0].wait_closed()
('small', True)
>>> body.count(b"data: "), body.endswith(b"data: [DONE]\\n\\n")
(5, True)

pytest loads `pytest_plugin` of this package by itself: it adds the fixtures `mistral_server` and
`mistral_client`, and the marker `rxmistral_recording`.

The modules:

    steps ──▶ compiler ──┬──▶ server (connection, received)          over a socket
                         └──▶ scripted_blocks, scripted_body ──▶ answers, or
                                             scripted_source ──▶ client         without a socket
    recorder (key_search) ──▶ recordings, a file ──▶ replaying ──▶ compiler
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import steps
    from .answers import answer, completion
    from .client import ScriptedClient, scripted_client
    from .received import ReceivedRequest
    from .recorder import record
    from .replaying import replay
    from .server import ScriptedServer
    from .steps import Script, Step, abort, done, drop, error, finish, hang, wait

# fmt: off
__all__ = [
    "ReceivedRequest", "Script", "ScriptedClient", "ScriptedServer", "Step", "abort", "answer", "completion", "done",
    "drop", "error", "finish", "hang", "record", "replay", "scripted_client", "steps", "wait",
]
# fmt: on

_MODULES = {
    "answers": ("answer", "completion"),
    "received": ("ReceivedRequest",),
    "recorder": ("record",),
    "replaying": ("replay",),
    "client": ("ScriptedClient", "scripted_client"),
    "server": ("ScriptedServer",),
    "steps": ("Script", "Step", "abort", "done", "drop", "error", "finish", "hang", "wait"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # pytest imports this package in programs that use nothing of it

    def __getattr__(name: str) -> object:
        if name == "steps":
            return import_module(".steps", __name__)
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
