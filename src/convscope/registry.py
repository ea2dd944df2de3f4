"""Names of objects that come one per file: datasets, models, recipes.

A registry knows a folder (a package). Asking it for names imports the modules in that folder, each
of which registers its objects; nothing else has to be edited to add one. So these modules keep
their imports light and import Keras inside functions; a file whose name starts with an underscore
is not scanned and may import anything.

Then come the plugins: other installed packages, which name modules of their own under an entry
point group ("convscope.models").
"""

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from convscope.errors import DuplicateNameError, UnknownNameError
from convscope.progress import console_progress

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


@dataclass
class _Plugin:
    """A plugin that is being imported.

    Attributes:
        package: Name and version of the package.
        registered: Tables that it added to, with the name in each.
    """

    package: str
    registered: list[tuple[dict[str, Any], str]] = field(default_factory=list)


_importing: list[_Plugin] = []
"""Plugins that are being imported; new entries belong to the last one. One list serves all
registries, as a plugin's module may register in several."""

_broken: set[str] = set()
"""Modules of plugins that could not be imported, of which the user was warned."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered object.

    Attributes:
        name: Name that users type.
        value: Registered object, mostly a function.
        info: Facts given at registration (parameter count, licence and so on).
        package: Plugin that provides it ("acme-nets 1.2"); None for convscope's own.
    """

    name: str
    value: T
    info: dict[str, Any] = field(default_factory=dict)
    package: str | None = None

    @property
    def doc(self) -> str:
        """The whole docstring."""
        return (self.value.__doc__ or "").strip()

    @property
    def summary(self) -> str:
        """The first line of the docstring, without its full stop."""
        return self.doc.split("\n", 1)[0].rstrip(".")

    @property
    def description(self) -> str:
        """The summary, with the package that it comes from if that is a plugin."""
        return self.summary if self.package is None else f"{self.summary} (from {self.package})"


def listed(values: Any) -> list[Any]:
    """Return names or numbers as a list, if one is given alone too.

    Examples:
        >>> listed("fog"), listed(("fog", "snow")), listed(3)
        (['fog'], ['fog', 'snow'], [3])
    """
    alone = isinstance(values, str) or not isinstance(values, Iterable)
    return [values] if alone else [*values]


class Registry(Generic[T]):
    """A table from names to functions or facts, filled by importing the modules of one package.

    Args:
        kind: Noun in messages ("model").
        package: Package to scan.
        group: Entry point group by which other packages add to it; None for none.
        nested: Whether to scan its sub-packages too.
        needs: Facts that registration requires, with their allowed values.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        *,
        group: str | None = None,
        nested: bool = True,
        needs: Mapping[str, Collection[Any]] = MappingProxyType({}),
    ) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._nested = nested
        self._needs = needs
        self._entries: dict[str, Entry[T]] = {}
        self._scanned = False

    def register(self, name: str, **info: Any) -> Callable[[T], T]:
        """Return a decorator that registers a function under `name`.

        Raises:
            DuplicateNameError: If the name is taken by another function.
            ValueError: If `info` lacks what this registry needs.
        """
        for key, allowed in self._needs.items():
            if info.get(key) not in allowed:
                choices = " or ".join(f'{key}="{value}"' for value in allowed)
                raise ValueError(f"the {self.kind} '{name}' must be registered with {choices}")

        def decorate(value: T) -> T:
            plugin = _importing[-1] if _importing else None
            entry = Entry(name, value, info, None if plugin is None else plugin.package)
            taken = self._entries.get(name)
            if taken is not None and taken.value is not value:
                raise DuplicateNameError(
                    f"the {self.kind} '{name}' is registered twice, {_home(taken)} and "
                    f"{_home(entry)}; rename one of the two"
                )
            self._entries[name] = entry
            if plugin is not None:
                plugin.registered.append((self._entries, name))
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
        if self._group is not None:
            # Here, as it takes some hundredths of a second, and `convscope --help` needs no names.
            from importlib.metadata import entry_points

            for point in entry_points(group=self._group):
                self._import_plugin(point)
        self._scanned = True

    def _import_plugin(self, point: "EntryPoint") -> None:
        """Import a plugin's module, which registers its objects; warn if it cannot be imported."""
        if point.value in _broken:
            return
        name, version = (point.dist.name, point.dist.version) if point.dist else (point.name, "")
        plugin = _Plugin(f"{name} {version}".strip())
        try:
            _importing.append(plugin)
            try:
                point.load()
            finally:
                _importing.pop()
        except DuplicateNameError as error:
            raise DuplicateNameError(f"{error}, or: pip uninstall {name}") from error
        except Exception as error:
            # One broken package must not prevent the use of the others, and of convscope's own.
            for entries, registered in plugin.registered:
                entries.pop(registered, None)
            _broken.add(point.value)
            reason = str(error).strip().split("\n")[0] or "no message"
            console_progress().say(
                f"{plugin.package} is skipped: its {point.value} cannot be imported "
                f"({type(error).__name__}: {reason}); fix it, or: pip uninstall {name}"
            )


def _home(entry: Entry[Any]) -> str:
    """Return the place where an object was registered, for people."""
    place = f"in {entry.value.__module__}"
    return place if entry.package is None else f"{place} of {entry.package}"
