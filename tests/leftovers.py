"""Finds what a test may leave behind: threads of ours, and sockets."""

from __future__ import annotations

import os
import threading


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("rxmistral-")]


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def sockets() -> set[str]:
    """Returns the sockets of this process by inode, a number that is not reused soon."""
    found = set()
    for descriptor in os.listdir("/dev/fd"):
        try:
            name = os.readlink(f"/dev/fd/{descriptor}")
        except OSError:  # closed meanwhile, or the descriptor of the listing
            continue
        if name.startswith("socket:"):
            found.add(name)
    return found
