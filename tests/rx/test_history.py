"""History: items by id, and the policies for viewers that lag."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxmistral import LaggedError
from rxmistral.rx.history import Entry, History, all_entries, all_items, catch_up_policy


@given(
    st.lists(st.one_of(st.integers(), st.text(max_size=2))),
    st.one_of(st.none(), st.integers(1, 5)),
    st.integers(0, 40),
)
def test_history_returns_the_items_after_an_id_or_counts_missed(
    items: list[Any], max_items: int | None, position: int
) -> None:
    history: History[Any] = History(max_items)
    for item in items:
        history.append(item)
    position %= len(items) + 1
    evicted = 0 if max_items is None else max(0, len(items) - max_items)
    assert history.last_id == len(items)
    if position < evicted:
        with pytest.raises(LaggedError) as raised:
            history.items_after(position)
        assert raised.value.missed == evicted - position
    else:
        assert history.items_after(position) == items[position:]


def history_of(*items: Any) -> History[Any]:
    history: History[Any] = History()
    for item in items:
        history.append(item)
    return history


def test_catch_up_policies_select_items() -> None:
    history = history_of("a", "b", "c")
    assert all_items(history, 1, 0) == (2, ["b", "c"])
    assert all_entries(history, 1, 0) == (2, [Entry(2, "b"), Entry(3, "c")])
    assert catch_up_policy("merge", None)[0](history, 1, 0) == (3, ["bc"])
    assert catch_up_policy("merge", 2)[0](history, 1, 0) == (2, ["b", "c"])
    assert catch_up_policy("latest", None)[0](history, 0, 0) == (3, ["c"])
    assert catch_up_policy("latest", 3)[0](history, 0, 0) == (1, ["a", "b", "c"])
    assert catch_up_policy("fail", 3)[0](history, 0, 0) == (1, ["a", "b", "c"])
    assert catch_up_policy("fail", 1)[0](history, 0, 3) == (1, ["a", "b", "c"])
    with pytest.raises(LaggedError) as raised:
        catch_up_policy("fail", 1)[0](history, 0, 0)
    assert raised.value.missed == 2


def test_latest_policy_ignores_evicted_items() -> None:
    history: History[int] = History(max_items=1)
    for item in (1, 2, 3):
        history.append(item)
    assert catch_up_policy("latest", 5)[0](history, 0, 0) == (3, [3])
