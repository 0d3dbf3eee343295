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


_spec = find_spec("time")
assert _spec is not None
assert _spec.loader is not None
_time: Any = module_from_spec(_spec)
_spec.loader.exec_module(_time)

monotonic: Callable[[], float] = _time.monotonic
sleep: Callable[[float], None] = _time.sleep
