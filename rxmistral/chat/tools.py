"""Tools made from functions: the schema of the parameters, the model's arguments, the result.

function ──▶ tool() ──▶ FunctionTool ──▶ tools=[...] of a request
                            │
    call of the model ──▶ call_with(arguments) ──▶ result ──▶ result_text(result) ──▶ ToolMessage
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from types import NoneType
from typing import (
    Annotated,
    Any,
    Generic,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import msgspec

from ..checks import check_callable
from ..lenient_decoding import check_decodable, decoder
from ..models import Function, Tool
from ..pydantic_models import encode_model, is_model
from .type_schema import closed_schema, object_schema

__all__ = ["FunctionTool", "ToolError", "result_text", "tool"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # the names that the service accepts


class ToolError(Exception):
    """A failure of a tool that is reported to the model, so that it can try something else.

    A tool raises it, with a text for the model. Arguments that cannot be decoded raise it, too.
    It is not a `MistralError`: neither the request nor its answer failed.
    """


class FunctionTool(Tool, Generic[P, R_co], dict=True):
    """A `Tool` that contains its function, and can be called as that function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        function = self.function
        return _remade, (self.__wrapped__, function.name, function.description, function.strict)

    def __copy__(self) -> FunctionTool[P, R_co]:
        remake, arguments = self.__reduce__()
        return cast("FunctionTool[P, R_co]", remake(*arguments))

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        return cast("Callable[P, R_co]", self.__dict__["_wrapped"])

    def call_with(self, arguments: str | Mapping[str, Any] | None) -> R_co:
        """Calls the function with the arguments of a model's call, and returns its result.

        The result of a coroutine function is a coroutine.

        Args:
            arguments: A JSON object, as `FunctionCall.arguments` contains it. Raw control
                characters in strings are accepted; "" and None count as `{}`.

        Raises:
            ToolError: The arguments are not of the annotated types. The text is for the model:
                it contains the error, and the path of the wrong value.

        >>> def add(a: int, b: int = 1) -> int:
        ...     return a + b
        >>> tool(add).call_with('{"a": 2}')
        3
        >>> tool(add).call_with('{"a": "2"}')
        Traceback (most recent call last):
        ...
        rxmistral.chat.tools.ToolError: the arguments of add are invalid: Expected `int`, got `str` - at `$.a`
        """
        try:
            text = arguments or "{}"
            if not isinstance(text, str):
                text = msgspec.json.encode(arguments).decode()
            decoded = self.__dict__["_decode"](text if text.strip() else "{}")
        except Exception as error:  # of msgspec, of a `__post_init__`, or of a validator
            reason = str(error) or type(error).__name__
            raise ToolError(
                f"the arguments of {self.function.name} are invalid: {reason}"
            ) from error
        by_name = {name: getattr(decoded, name) for name in decoded.__struct_fields__}
        return cast("Callable[..., R_co]", self.__wrapped__)(**by_name)


@overload
def tool(
    function: Callable[P, R_co],
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
) -> FunctionTool[P, R_co]: ...
@overload
def tool(
    function: None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
) -> Callable[[Callable[P, R_co]], FunctionTool[P, R_co]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
) -> Any:
    """Returns a tool that calls a function, for `tools=[...]` of a request.

    It is also a decorator, with and without arguments. The JSON schema of the parameters is
    made of their annotations: types that msgspec decodes, pydantic models, `Literal`s, and
    `Annotated[..., msgspec.Meta(description="...")]`, whose description the model reads.
    A parameter without an annotation accepts any JSON value.

    Args:
        function: A function, coroutine function, method, `functools.partial` or other
            callable. Each of its parameters can be given by name. The model does not see
            the arguments of a partial.
        name: The name that the model calls; None: that of the function.
        description: What the model reads about the tool; None: the docstring.
        strict: True: the service holds the model to the schema, and arguments that the
            function does not have are refused; None or False: they are ignored.

    Raises:
        TypeError: A parameter cannot be given by name, or its type cannot be decoded.
        ValueError: The name is not 1 to 64 letters, digits, "_" and "-" of ASCII.

    >>> @tool
    ... def add(a: int, b: int = 1) -> int:
    ...     "Adds two numbers."
    ...     return a + b
    >>> add.function.description, add.function.parameters["properties"]
    ('Adds two numbers.', {'a': {'type': 'integer'}, 'b': {'type': 'integer', 'default': 1}})
    >>> add(1, 2)
    3
    """
    if function is None:
        return partial(tool, name=name, description=description, strict=strict)
    check_callable("function", function)
    if isinstance(function, type):
        raise TypeError(f"function must be a function or method, got the class {function!r}")
    if inspect.isgeneratorfunction(function):
        raise TypeError(
            f"function must not be a generator function, whose items would not be emitted, got "
            f"{function!r}; make it an async generator function, with async def"
        )
    named = _named(function)
    if isinstance(function, FunctionTool):
        function = function.__wrapped__
    name = _checked_name(getattr(named, "__name__", type(named).__name__) if name is None else name)
    arguments = _arguments_struct(function, name, is_strict=strict is True)
    schema = object_schema(arguments)
    del schema["title"]
    made: FunctionTool[..., Any] = FunctionTool(
        function=Function(
            name=name,
            parameters=closed_schema(schema) if strict else schema,
            description=inspect.getdoc(named) if description is None else description,
            strict=strict,
        )
    )
    # Attributes, not fields: msgspec encodes only the fields.
    vars(made).update(
        _wrapped=function,
        _decode=decoder(arguments),
        __name__=name,
        __doc__=made.function.description,
    )
    return made


def _remade(function: Callable[..., Any], *fields: Any) -> FunctionTool[..., Any]:
    name, description, strict = fields
    return tool(function, name=name, description=description, strict=strict)


def _named(function: Any) -> Any:
    """Returns the function that has the name and docstring: a partial has those of its class."""
    while isinstance(function, partial) and not hasattr(function, "__name__"):
        function = function.func
    return function


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name of a tool must be 1 to 64 letters, digits, '_' and '-', got {name!r:.100}; "
            "give name="
        )
    return name


# --- parameters ------------------------------------------------------------------


def _arguments_struct(function: Callable[..., Any], name: str, *, is_strict: bool) -> Any:
    """Returns a Struct with a field for each parameter of a function."""
    parameters = _parameters(function, name)
    hints = _hints(function, name, parameters)
    fields = []
    for parameter in parameters.values():
        hint = hints.get(parameter.name, Any)
        try:
            if parameter.default is None and not _can_be_none(hint):
                hint = hint | None  # models send null for a parameter that may be left out
            check_decodable(hint)
        except TypeError as error:
            raise TypeError(f"the parameter {parameter.name!r} of {name}: {error}") from None
        fields.append((parameter.name, hint, *_default(parameter)))
    return msgspec.defstruct(
        f"{name} arguments", fields, kw_only=True, forbid_unknown_fields=is_strict
    )


def _can_be_none(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint is Any or NoneType in get_args(hint)


def _parameters(function: Callable[..., Any], name: str) -> dict[str, inspect.Parameter]:
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise TypeError(f"the parameters of {name} are not known: {error}") from None
    bound = function.keywords if isinstance(function, partial) else {}
    parameters = {key: each for key, each in signature.parameters.items() if key not in bound}
    for number, parameter in enumerate(parameters.values()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            bare = parameter.replace(annotation=parameter.empty, default=parameter.empty)
            raise TypeError(
                f"the parameter {str(bare)!r} of {name} cannot be given by name, as a model "
                "gives it; wrap the function in one whose parameters have names"
            )
        if (
            not number
            and parameter.name in ("self", "cls")
            and parameter.annotation is parameter.empty
        ):
            raise TypeError(f"{name} is a method without its object: pass the method of an object")
    return parameters


def _hints(function: Any, name: str, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Returns the resolved annotations of the parameters; that of the result may be unknown."""
    definition = _definition(function)
    try:
        known = getattr(definition, "__annotations__", {})
        annotations = {each: known[each] for each in parameters if each in known}
        holder = type("Parameters", (), {"__annotations__": annotations})
        return get_type_hints(holder, getattr(definition, "__globals__", {}), include_extras=True)
    except Exception as error:  # of the annotation's own code, if it is a str
        raise TypeError(
            f"an annotation of {name} cannot be resolved: {error}; define its type in the module"
        ) from None


def _definition(function: Any) -> Any:
    """Returns the plain function that a callable runs."""
    while not inspect.isfunction(function):
        if isinstance(function, partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isroutine(function):
            break
        else:
            function = type(function).__call__
    return inspect.unwrap(function)


def _default(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """Returns the default as a field has it; the model sees those that are plain."""
    default = parameter.default
    if default is parameter.empty:
        return ()
    is_plain = default is None or isinstance(default, (str, int, float, Enum))
    if is_plain and default not in (math.inf, -math.inf):
        return (default,)
    return (msgspec.field(default_factory=lambda: default),)


# --- results ---------------------------------------------------------------------


def result_text(result: Any) -> str:
    """Returns the result of a tool as the content of its message: a str as it is, else JSON.

    Raises:
        TypeError: The result cannot be written as JSON.

    >>> result_text("sunny"), result_text({"degrees": 21}), result_text(None)
    ('sunny', '{"degrees":21}', 'null')
    """
    if isinstance(result, str):
        return str(result)
    return msgspec.json.encode(result, enc_hook=_plain).decode()


def _plain(value: Any) -> Any:
    if is_model(type(value)):
        return encode_model(value)
    if isinstance(value, Mapping):
        return dict(value)
    for kind in (str, int, float):  # a subclass, such as numpy's float64
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"the result of a tool must be a str or JSON serializable, got {value!r:.100}")
