"""StoppableRun: readers that leave, what they have taken, and the stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from faces import eventually
from reactivex import Subject, abc
from reactivex.disposable import Disposable

from rxmistral import StoppedError, Stream
from rxmistral.rx.iteration import iterate
from rxmistral.rx.stoppable_run import StoppableRun, Taken, counted


class Source:
    """A run of a Subject, and its readers."""

    def __init__(self) -> None:
        self.items: Subject[int] = Subject()
        self.idle = 0
        self.disposed = 0
        self.on_dispose: Callable[[], object] = lambda: None
        self.run: StoppableRun[int] = StoppableRun(self.count_idle)

    def count_idle(self) -> None:
        self.idle += 1

    def subscribe(self, observer: abc.ObserverBase[int]) -> abc.DisposableBase:
        subscription = self.items.subscribe(observer)

        def dispose() -> None:
            subscription.dispose()
            self.disposed += 1
            self.on_dispose()

        return Disposable(dispose)

    def stream(self, taken: Taken | None = None) -> Stream[int]:
        return Stream(lambda observer, _: self.run.read(observer, self.subscribe, taken))

    def loop(self, taken: Taken) -> Iterator[int]:
        return counted(iterate(self.stream(taken), lambda _: None), taken)


@pytest.fixture
def source() -> Source:
    return Source()


def test_run_ends_when_the_last_reader_leaves(source: Source) -> None:
    first, second = source.stream().subscribe(), source.stream().subscribe()
    source.items.on_next(1)
    first.dispose()
    assert not source.disposed
    second.dispose()
    assert source.disposed == 1
    assert source.run.is_over
    assert source.idle


def test_open_run_outlives_its_readers(source: Source) -> None:
    source.run.is_open = True
    source.stream().subscribe().dispose()
    assert not source.disposed
    source.run.close()
    assert source.disposed == 1


def test_subscriber_counts_the_items_it_has_received(source: Source) -> None:
    subscription = source.stream().subscribe()
    for number in range(3):
        source.items.on_next(number)
    assert source.run.position() == 3
    subscription.dispose()
    source.items.on_next(4)
    assert source.run.position() == 3


def test_reader_that_joins_during_close_gets_an_error(source: Source) -> None:
    errors: list[Exception] = []
    source.on_dispose = lambda: source.stream().subscribe(on_error=errors.append)
    source.stream().subscribe()
    source.run.close()
    assert eventually(lambda: len(errors) == 1)
    assert type(errors[0]) is StoppedError
    assert source.run.is_over


def test_loop_over_some_items_counts_those(source: Source) -> None:
    taken = Taken(source.run, lambda item: item % 2 == 1)
    taken.count = 2
    assert taken.position([0, 1, 2, 3, 4, 5]) == 4
    assert taken.position([]) == 0


def test_stop_ends_each_reader_with_an_error(source: Source) -> None:
    received: list[object] = []
    source.stream().subscribe(received.append, received.append)
    source.items.on_next(1)
    source.run.stop()
    source.items.on_next(2)
    assert received[0] == 1
    assert isinstance(received[1], StoppedError)
    assert len(received) == 2
    late: list[object] = []
    source.stream().subscribe(late.append, late.append)
    assert [type(each) for each in late] == [StoppedError]


def test_stop_within_a_callback_waits_for_it(source: Source) -> None:
    received: list[object] = []

    def on_next(number: int) -> None:
        source.run.stop()
        received.append(number)

    source.stream().subscribe(on_next, lambda error: received.append(type(error)))
    source.items.on_next(1)
    assert received == [1, StoppedError]


def test_stop_drops_the_items_that_a_loop_has_not_taken(source: Source) -> None:
    taken = Taken(source.run, lambda _: True)
    loop = source.loop(taken)
    source.stream().subscribe(on_error=lambda _: None)
    for number in range(3):
        source.items.on_next(number)
    assert next(loop) == 0
    assert eventually(lambda: source.run.history.last_id == 3)
    source.run.stop()
    with pytest.raises(StoppedError):
        next(loop)
    assert taken.count == 1
    assert taken.has_left
