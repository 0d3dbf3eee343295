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


def test_counter_does_not_report_to_its_own_run() -> None:
    run, parent = RequestCounter(), RequestCounter()
    run.report_to(run)
    run.report_to(parent)
    parent.report_to(run)  # as a callback of a reader that reads its run again
    run.count_request()
    assert (run.requests, parent.requests) == (1, 1)


def test_latest_request_id_reaches_the_parent() -> None:
    run, other, parent = RequestCounter(), RequestCounter(), RequestCounter()
    run.record_request_id("a")
    run.report_to(parent)
    other.report_to(parent)
    assert parent.request_id == "a"
    run.record_request_id("b")
    assert parent.request_id == "b"
    other.record_request_id(None)
    assert parent.request_id is None
