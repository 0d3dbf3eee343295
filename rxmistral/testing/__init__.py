"""A scripted server on the loopback interface, for tests of programs that stream chat completions.

It answers over a real socket, in the shape of Mistral's streaming endpoint, and misbehaves on
demand: it falls silent, cuts the connection, reports an error in the middle of an answer, or sends
bytes that are not an event stream. It needs neither a key nor a network. Point a client at it
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

`rxmistral.testing.steps` lists the steps that a script can consist of.
"""

from . import steps
from .received import ReceivedRequest
from .server import ScriptedServer
from .steps import Script, Step

__all__ = ["ReceivedRequest", "Script", "ScriptedServer", "Step", "steps"]
