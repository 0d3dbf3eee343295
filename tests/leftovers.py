"""What a test may leave behind: threads of ours, and sockets."""

from __future__ import annotations

import os
import threading


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("rxmistral-")]


def sockets() -> set[str]:
    """The sockets of this process, by inode: a number that is not given twice in a while."""
    found = set()
    for descriptor in os.listdir("/dev/fd"):
        try:
            name = os.readlink(f"/dev/fd/{descriptor}")
        except OSError:  # closed since, or the one that listed them
            continue
        if name.startswith("socket:"):
            found.add(name)
    return found
