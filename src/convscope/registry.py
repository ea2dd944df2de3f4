"""Names for things that come one to a file: datasets, models, recipes.

A registry knows a folder (a package). Asking it for names imports the modules in that folder, each
of which registers what it holds; nothing else has to be edited to add one. So these modules keep
their imports light and bring in Keras inside functions; a file whose name starts with an
underscore is not scanned and may import what it likes.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from convscope.errors import UnknownNameError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing.

    Attributes:
        name: What users type.
        value: What is registered, mostly a function.
        info: What was said about it at registration (parameter count, licence and so on).
    """

    name: str
    value: T
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def doc(self) -> str:
        """The whole docstring."""
        return (self.value.__doc__ or "").strip()

    @property
    def summary(self) -> str:
        """The first line of the docstring, without its full stop."""
        return self.doc.split("\n", 1)[0].rstrip(".")


class Registry(Generic[T]):
    """A table from names to functions or facts, filled by importing the modules of one package.

    Args:
        kind: The noun in messages ("model").
        package: The package to scan.
        nested: Whether its sub-packages are scanned too.
    """

    def __init__(self, kind: str, package: str, *, nested: bool = True) -> None:
        self.kind = kind
        self._package = package
        self._nested = nested
        self._entries: dict[str, Entry[T]] = {}
        self._scanned = False

    def register(self, name: str, **info: Any) -> Callable[[T], T]:
        """Return a decorator that registers a function under `name`.

        Raises:
            ValueError: If the name is taken by another function.
        """

        def decorate(value: T) -> T:
            taken = self._entries.get(name)
            if taken is not None and taken.value is not value:
                raise ValueError(
                    f"{self.kind} '{name}' is registered twice: in {taken.value.__module__} "
                    f"and in {value.__module__}"
                )
            self._entries[name] = Entry(name, value, info)
            return value

        return decorate

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        self._scan()
        return sorted(self._entries)

    def entries(self) -> list[Entry[T]]:
        """Return all entries, sorted by name."""
        return [self._entries[name] for name in self.names()]

    def entry(self, name: str) -> Entry[T]:
        """Return the entry called `name`.

        Raises:
            UnknownNameError: If there is none; the message suggests the nearest name.
        """
        self._scan()
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._entries[name]

    def get(self, name: str) -> T:
        """Return the function registered as `name`.

        Raises:
            UnknownNameError: If there is none; the message suggests the nearest name.
        """
        return self.entry(name).value

    def _scan(self) -> None:
        if self._scanned:
            return
        package = importlib.import_module(self._package)
        list_modules = pkgutil.walk_packages if self._nested else pkgutil.iter_modules
        for module in list_modules(package.__path__, prefix=f"{self._package}."):
            if not module.name.rsplit(".", 1)[1].startswith("_"):
                importlib.import_module(module.name)
        self._scanned = True
