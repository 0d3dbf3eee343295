"""Logs: runs that outlive the process that produces them, and that any process can read.

    source ──▶ to_log ──▶ local subscriber          from_log ──▶ reader, in any process
                 └──▶ append ──▶ [ 1 2 3 ... end ] ──▶ read ──┘

`to_log` appends an answer to a log as it arrives. `from_log` reads it from any item on, while it
is produced and afterwards: each item once and in order, and the ending last. The log is one of

    MemoryLog()      in this process: for tests, and for programs that may grow
    RedisLog(url)    rxmistral.logs.redis_streams, pip install rxmistral[redis], Redis 6.2
    NatsLog(url)     rxmistral.logs.jetstream, pip install rxmistral[nats], nats-server 2.11

>>> from rxmistral import Mistral, UserMessage, text
>>> log, client = MemoryLog(), Mistral.demo()
>>> answer = client.chat.stream(model="any", messages=[UserMessage(content="Count to five.")])
>>> _ = answer.pipe(text(), to_log(log, "run-1")).subscribe()
>>> "".join(from_log(log, "run-1"))  # in any process that has the log
'One, two, three, four, five.'
>>> list(from_log(log, "run-1", after=3))  # a reader that comes back
[' four,', ' five.']

`log.stop("run-1")`, in any process, stops the generation. A second producer of a run is fenced
out (`FencedError`). If a producer dies, its readers get `LostProducerError` within the log's
lease. A broker that is away for less than `outage` seconds loses nothing that it had written to
disk. If it stays away, both sides end with `LogUnavailableError`, but a direct subscriber of the
producer first receives the whole answer.

`RunLog` specifies what a log guarantees. The modules of the brokers are imported only by the
programs that use them.
"""

from .memory import MemoryLog
from .reading import LoggedStream, from_log
from .run_log import Page, RunLog
from .writing import to_log

__all__ = ["LoggedStream", "MemoryLog", "Page", "RunLog", "from_log", "to_log"]
