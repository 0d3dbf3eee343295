"""A scripted loopback server, for tests of pipelines that read streamed chat completions.

It answers over a real socket, in the shape of Mistral's streaming endpoint, and misbehaves on demand: it goes
silent, cuts the connection, reports an error in the middle, sends bytes that are no event stream. It needs no key
and no network. Give a client its address (`server_url=server.url`), and look afterwards at what the client sent
and when it hung up.

>>> from http.client import HTTPConnection
>>> from rxmistral.testing import ScriptedServer, steps
>>> with ScriptedServer([steps.role(), "Hel", "lo", steps.finish("stop", usage=(3, 2)), steps.done()]) as server:
...     connection = HTTPConnection("127.0.0.1", server.port)
...     connection.request("POST", "/v1/chat/completions", b'{"model": "small"}')
...     body = connection.getresponse().read()
...     connection.close()
...     server.requests[0].json["model"], server.requests[0].wait_closed()
('small', True)
>>> body.count(b"data: "), body.endswith(b"data: [DONE]\\n\\n")
(5, True)

The words of a script are in `rxmistral.testing.steps`.
"""

from . import steps
from .received import ReceivedRequest
from .server import ScriptedServer
from .steps import Script, Step

__all__ = ["ReceivedRequest", "Script", "ScriptedServer", "Step", "steps"]
