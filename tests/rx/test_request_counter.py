"""RequestCounter: what a run reports to the runs that subscribe to it."""

from __future__ import annotations

from rxmistral.rx.request_counter import RequestCounter


def test_counts_before_and_after_reach_the_parent() -> None:
    run, parent = RequestCounter(), RequestCounter()
    run.count_request()
    run.report_to(parent)
    run.count_response(7.0)
    run.count_resume()
    assert (parent.requests, parent.answers, parent.resumed) == (1, 1, 1)
    assert parent.headers_at == 7.0


def test_parent_that_is_added_twice_counts_once() -> None:
    run, parent = RequestCounter(), RequestCounter()
    run.count_request()
    run.report_to(parent)
    run.report_to(parent)  # as two viewers of one shared run do
    run.count_request()
    assert parent.requests == 2
