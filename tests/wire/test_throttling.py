"""A process that is stopped again and again, as a CPU quota does, moves no callback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from faces import BOUND

from rxmistral.testing import Script, ScriptedServer, steps

STREAMS = 30
CHUNKS = 60
PACED: Script = [
    each for _ in range(CHUNKS) for each in (steps.raw(b"data: x\n\n"), steps.wait(0.02))
]

PROGRAM = f"""
    import sys, threading, time
    from rxmistral.wire import blocks
    from rxmistral.wire.reader import Request

    received, most, ended = [0], [0], threading.Semaphore(0)

    def on_next(block):
        received[0] += block.count(b"data: x")
        names = [thread.name for thread in threading.enumerate()]
        most[0] = max(most[0], names.count("rxmistral-event-loop"))
        end = time.thread_time() + 0.0002
        while time.thread_time() < end:
            pass

    for _ in range({STREAMS}):
        stream = blocks(Request("POST", sys.argv[1]), reader="shared")
        stream.subscribe(on_next, on_completed=ended.release)
    for _ in range({STREAMS}):
        assert ended.acquire(timeout={BOUND})
    print(received[0], most[0])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
def test_throttled_process_keeps_its_threads_and_chunks() -> None:
    with ScriptedServer(lambda _: PACED) as server:
        program = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), server.url],
            stdout=subprocess.PIPE,
            text=True,
        )
        with program:
            server.wait_for_requests(STREAMS)
            while program.poll() is None:
                os.kill(program.pid, signal.SIGSTOP)
                time.sleep(0.05)
                os.kill(program.pid, signal.SIGCONT)
                time.sleep(0.05)
            assert program.stdout is not None
            received, threads = map(int, program.stdout.read().split())
    assert received == STREAMS * CHUNKS
    assert threads <= 2  # by the clock alone, dozens of callbacks look slow or blocked
