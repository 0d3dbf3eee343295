# The types of pipe.py, in a stub because `pipe` returns Streams, and Stream is a subclass. For each
# number of operators, in the order in which a checker must try them:
#
#   S           the last result is a Stream and stays what it is: a TextStream, a SharedStream
#   Future[A]   `ops.to_future()`; mypy 2.4 infers no result of it unless the items are the same
#   Source[A]   any other Observable becomes a Stream
#   Source[A]   the same, after operators that need a subclass of Observable: `ops.ref_count()`
#   A           anything else is returned unchanged: the list of `ops.partition()`
#
# What operators between others emit is written as `Source[A]`, and not as any type, because from
# it the checkers infer the items that the next operator receives, for example in a lambda.
# mypy: disable-error-code="override"
# pyright: reportIncompatibleMethodOverride=false

from asyncio import Future
from collections.abc import Callable
from typing import Any, Self, TypeAlias, TypeVar, overload

from reactivex import Observable

from .reactivex_methods import ReactivexMethods
from .shared_stream import SharedStream
from .stream import AsyncItems, AsyncResult, Stream

__all__ = ["Pipe"]

T = TypeVar("T", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
S = TypeVar("S", bound=Stream[Any])

Source: TypeAlias = Observable[A]
Op: TypeAlias = Callable[[A], B]

class Pipe(ReactivexMethods[T]):
    @overload
    def map_async(
        self, function: Callable[[T], AsyncItems[A]], concurrency: int = 1, ordered: bool = True
    ) -> Stream[A]: ...
    @overload
    def map_async(
        self, function: Callable[[T], AsyncResult[A]], concurrency: int = 1, ordered: bool = True
    ) -> Stream[A]: ...
    def shared(
        self, linger: float | None = None, max_items: int | None = None
    ) -> SharedStream[T]: ...
    @overload
    def pipe(self, /) -> Self: ...
    @overload
    def pipe(self, op1: Op[Source[T], S], /) -> S: ...
    @overload
    def pipe(self, op1: Op[Source[T], Source[A]], /) -> Stream[A]: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], /) -> A: ...
    @overload
    def pipe(self, op1: Op[Source[T], Source[A]], op2: Op[Source[A], S], /) -> S: ...
    @overload
    def pipe(
        self, op1: Op[Source[T], Source[A]], op2: Op[Source[A], Future[A]], /
    ) -> Future[A]: ...
    @overload
    def pipe(
        self, op1: Op[Source[T], Source[A]], op2: Op[Source[A], Source[B]], /
    ) -> Stream[B]: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, Source[B]], /) -> Stream[B]: ...
    @overload
    def pipe(self, op1: Op[Source[T], Source[A]], op2: Op[Source[A], B], /) -> B: ...
    @overload
    def pipe(
        self, op1: Op[Source[T], Source[A]], op2: Op[Source[A], Source[B]], op3: Op[Source[B], S], /
    ) -> S: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Future[B]],
        /,
    ) -> Future[B]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        /,
    ) -> Stream[C]: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, B], op3: Op[B, Source[C]], /) -> Stream[C]: ...
    @overload
    def pipe(
        self, op1: Op[Source[T], Source[A]], op2: Op[Source[A], Source[B]], op3: Op[Source[B], C], /
    ) -> C: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], S],
        /,
    ) -> S: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Future[C]],
        /,
    ) -> Future[C]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        /,
    ) -> Stream[D]: ...
    @overload
    def pipe(
        self, op1: Op[Source[T], A], op2: Op[A, B], op3: Op[B, C], op4: Op[C, Source[D]], /
    ) -> Stream[D]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], D],
        /,
    ) -> D: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], S],
        /,
    ) -> S: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Future[D]],
        /,
    ) -> Future[D]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        /,
    ) -> Stream[E]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, Source[E]],
        /,
    ) -> Stream[E]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], E],
        /,
    ) -> E: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        op6: Op[Source[E], S],
        /,
    ) -> S: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        op6: Op[Source[E], Future[E]],
        /,
    ) -> Future[E]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        op6: Op[Source[E], Source[F]],
        /,
    ) -> Stream[F]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, E],
        op6: Op[E, Source[F]],
        /,
    ) -> Stream[F]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        op6: Op[Source[E], F],
        /,
    ) -> F: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        op6: Op[Source[E], Source[F]],
        op7: Op[Source[F], S],
        /,
    ) -> S: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        op6: Op[Source[E], Source[F]],
        op7: Op[Source[F], Future[F]],
        /,
    ) -> Future[F]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        op6: Op[Source[E], Source[F]],
        op7: Op[Source[F], Source[G]],
        /,
    ) -> Stream[G]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, E],
        op6: Op[E, F],
        op7: Op[F, Source[G]],
        /,
    ) -> Stream[G]: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], Source[A]],
        op2: Op[Source[A], Source[B]],
        op3: Op[Source[B], Source[C]],
        op4: Op[Source[C], Source[D]],
        op5: Op[Source[D], Source[E]],
        op6: Op[Source[E], Source[F]],
        op7: Op[Source[F], G],
        /,
    ) -> G: ...
