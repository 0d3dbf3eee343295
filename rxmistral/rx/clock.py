"""The clock for timeouts and pauses: real seconds, even while a test freezes the time.

freezegun replaces `time.monotonic` in every module that has imported it; a timeout that is
measured by a frozen clock never expires. freezegun finds functions by their identity, so it does
not know the functions of a second instance of the built-in module `time` (tested with freezegun
1.5.5). Dates that a caller sees use `time.time()`, which a test may freeze.
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
