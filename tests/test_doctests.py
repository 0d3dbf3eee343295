"""The examples in docstrings run, and print what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import rxmistral

MODULES = ["rxmistral"] + [
    module.name for module in pkgutil.walk_packages(rxmistral.__path__, "rxmistral.")
]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_of_a_module_pass(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_central_modules_have_examples() -> None:
    attempted = {name: doctest.testmod(importlib.import_module(name)).attempted for name in
                 ("rxmistral.wire.lines", "rxmistral.wire.events", "rxmistral.completions.choice",
                  "rxmistral.completions.decoding", "rxmistral.completions.finish")}  # fmt: skip
    assert all(attempted.values()), attempted
