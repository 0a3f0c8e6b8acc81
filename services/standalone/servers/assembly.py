"""Servers and services that are opened together and closed together."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Self


class Assembly(ABC):
    """Closes what `_open` put on `_stack`, in the reverse order, also when it fails half-way. A context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    @abstractmethod
    def _open(self) -> None:
        """Open everything, and put on `_stack` what must be closed."""

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
