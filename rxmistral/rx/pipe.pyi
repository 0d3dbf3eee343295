# The types of pipe.py, in a stub because `pipe` returns Streams, and Stream is a subclass. The
# result of the last operator stays what it is if it is a Stream, for example a TextStream or a
# SharedStream; another Observable becomes a Stream; anything else is returned unchanged.
# mypy: disable-error-code="override"
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Callable
from typing import Any, Self, TypeAlias, TypeVar, overload

from reactivex import Observable

from .reactivex_methods import ReactivexMethods
from .stream import Stream

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
    def pipe(self, /) -> Self: ...
    @overload
    def pipe(self, op1: Op[Source[T], S], /) -> S: ...
    @overload
    def pipe(self, op1: Op[Source[T], Source[A]], /) -> Stream[A]: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], /) -> A: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, S], /) -> S: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, Source[B]], /) -> Stream[B]: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, B], /) -> B: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, B], op3: Op[B, S], /) -> S: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, B], op3: Op[B, Source[C]], /) -> Stream[C]: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, B], op3: Op[B, C], /) -> C: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, B], op3: Op[B, C], op4: Op[C, S], /) -> S: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, Source[D]],
        /,
    ) -> Stream[D]: ...
    @overload
    def pipe(self, op1: Op[Source[T], A], op2: Op[A, B], op3: Op[B, C], op4: Op[C, D], /) -> D: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, S],
        /,
    ) -> S: ...
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
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, E],
        /,
    ) -> E: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, E],
        op6: Op[E, S],
        /,
    ) -> S: ...
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
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, E],
        op6: Op[E, F],
        /,
    ) -> F: ...
    @overload
    def pipe(
        self,
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, E],
        op6: Op[E, F],
        op7: Op[F, S],
        /,
    ) -> S: ...
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
        op1: Op[Source[T], A],
        op2: Op[A, B],
        op3: Op[B, C],
        op4: Op[C, D],
        op5: Op[D, E],
        op6: Op[E, F],
        op7: Op[F, G],
        /,
    ) -> G: ...
