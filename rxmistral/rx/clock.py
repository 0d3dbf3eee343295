"""The clock that measures waiting: real seconds, also while a test freezes the time.

freezegun replaces `time.monotonic` in every module that imported it. A timeout, a pause or
a heartbeat measured by a frozen clock never ends, while the socket below it waits in real
time. freezegun finds the functions by their identity, so a second instance of the built-in
module `time` has functions that it does not know (tried with freezegun 1.5.5). They are the
same C functions, and cost the same.

What a caller sees as a date stays `time.time()`, which a test may freeze.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from typing import Any

__all__ = ["monotonic", "sleep"]


def _second_instance(name: str) -> Any:
    spec = find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_time = _second_instance("time")


monotonic: Callable[[], float] = _time.monotonic
sleep: Callable[[float], None] = _time.sleep
