"""Fields of results: one declaration names an array, its axes and its place in the file."""

from typing import Any, Generic, Self, TypeVar, overload

import numpy as np

T = TypeVar("T")


class Array:
    """An array of a result, with the names of its axes. Reading it raises InputError where the result lacks it."""

    def __init__(self, *axes: str) -> None:
        self.axes = axes

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, result: None, owner: type) -> Self: ...
    @overload
    def __get__(self, result: Any, owner: type) -> np.ndarray: ...
    def __get__(self, result: Any, owner: type) -> Any:
        return self if result is None else result[self.name]


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
        return self if result is None else result.meta[self.name]
