"""The fixture of the tests of telemetry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from traces import Traces


@pytest.fixture
def traces() -> Iterator[Traces]:
    yield (traces := Traces())
    traces.shut_down()
