"""Runs that outlive the process that reads them: written into a log, read from anywhere.

    source ──▶ to_log ──▶ local subscriber          from_log ──▶ reader, in any process
                 └──▶ append ──▶ [ 1 2 3 ... end ] ──▶ read ──┘

`run_log` is what a log promises, `memory`, `redis_streams` and `jetstream` keep it,
`encoding` turns items into what is kept and back, `writing` and `reading` are the two
operators. The brokers' modules are imported by who uses them, since they need a client
that is not installed with the others: `pip install rxmistral[redis]` or `[nats]`.
"""

from .memory import MemoryLog
from .reading import LoggedStream, from_log
from .run_log import Page, RunLog
from .writing import to_log

__all__ = ["LoggedStream", "MemoryLog", "Page", "RunLog", "from_log", "to_log"]
