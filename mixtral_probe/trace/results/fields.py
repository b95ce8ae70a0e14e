"""Fields of results: one declaration names an array, its axes and its place in the file."""

from typing import Any, Generic, Self, TypeVar, get_args, overload

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mixtral_probe.errors import InputError

T = TypeVar("T")


class Array:
    """An array of a result, with the names of its axes. Reading it raises InputError where the result lacks it."""

    def __init__(self, *axes: str, whole: bool = False, counted: bool = False) -> None:
        """Declare the field.

        Args:
            axes: their names, in order.
            whole: whether its numbers are integers, such as ids and places.
            counted: whether they are whole, of any type.
        """
        self.axes, self.whole, self.counted = axes, whole, counted

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, result: None, owner: type) -> Self: ...
    @overload
    def __get__(self, result: Any, owner: type) -> np.ndarray: ...
    def __get__(self, result: Any, owner: type) -> Any:
        return self if result is None else result[self.name]

    def check(self, axes: tuple[str, ...], values: np.ndarray) -> None:
        """Raise ValueError where an array read from a file has other axes or numbers than the field declares."""
        if axes != self.axes:
            raise ValueError(f"{self.name} has the axes {', '.join(axes)}, not {', '.join(self.axes)}")
        if self.whole and values.dtype.kind not in "iu":
            raise ValueError(f"{self.name} has {values.dtype}, not whole numbers")
        if self.counted and not np.array_equal(values, np.rint(values)):
            raise ValueError(f"{self.name} has other than whole numbers")


class Setting(Generic[T]):
    """An entry of a result's meta."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    @overload
    def __get__(self, result: None, owner: type) -> Self: ...
    @overload
    def __get__(self, result: Any, owner: type) -> T: ...
    def __get__(self, result: Any, owner: type) -> Any:
        if result is None:
            return self
        if self.name not in result.meta:
            raise InputError(f"a result of {result.kind!r} must have the setting {self.name!r}, got none; run it again")
        return result.meta[self.name]

    def check(self, value: Any) -> None:
        """Raise ValueError where a value read from a file is of another type than the field declares."""
        (kind,) = get_args(getattr(self, "__orig_class__", Setting[Any]))  # typing keeps it of Setting[kind]()
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise ValueError(f"{self.name}: {error.errors()[0]['msg']}") from None
