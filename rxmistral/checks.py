"""Checks of arguments, which refuse a wrong one at the call, all in the same words."""

from __future__ import annotations

import math

__all__ = ["check_callable", "check_number", "check_seconds", "check_whole"]


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raises unless it is a whole number that is not less than the least."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value!r}")


def check_number(name: str, value: object, least: float, most: float = math.inf) -> None:
    """Raises unless it is a finite number from the least to the most."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not (math.isfinite(value) and least <= value <= most):
        bound = f"{least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {bound}, and finite, got {value!r}")


def check_seconds(name: str, value: object) -> None:
    """Raises unless it is a length of time that is finite and not zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, got {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be more than 0 seconds, and finite, got {value!r}")


def check_callable(name: str, value: object) -> None:
    """Raises unless it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {type(value).__name__}")
