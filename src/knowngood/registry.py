"""Named extension points: one line registers one implementation, third parties use entry points."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from knowngood.errors import UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to implementations, each imported on first use.

    Args:
        kind: What is registered, in the singular, for messages ("data source").
        group: Entry-point group in which third parties register theirs.
        builtin: Name to "package.module:attribute".
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)
        self._added: dict[str, T] = {}

    @cached_property
    def _targets(self) -> dict[str, str]:
        outside = {point.name: point.value for point in entry_points(group=self.group)}
        return {**outside, **self._builtin}  # ours win: a plug-in cannot silently replace a built-in

    def register(self, name: str, implementation: T) -> None:
        """Adds an implementation at run time (tests, notebooks); packages use entry points."""
        if name in self:
            raise UnknownNameError(f"A {self.kind} named {name!r} is registered already.", fix="Choose another name.")
        self._added[name] = implementation

    def unregister(self, name: str) -> None:
        """Removes what `register` added; built-ins stay."""
        self._added.pop(name, None)

    def get(self, name: str) -> T:
        """Returns the implementation, importing it on first use.

        Raises:
            UnknownNameError: No such name; the nearest names are suggested.
        """
        if name in self._added:
            return self._added[name]
        if name not in self._targets:
            near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else "choose one of those."
            raise UnknownNameError(
                f"There is no {self.kind} named {name!r}.",
                expected=", ".join(self.names()),
                fix=hint,
            )
        module, _, attribute = self._targets[name].partition(":")
        return cast(T, getattr(import_module(module), attribute))

    def names(self) -> list[str]:
        """Returns every registered name, built-ins in their declared order first."""
        return [*self._builtin, *(n for n in self._targets if n not in self._builtin), *self._added]

    def added(self) -> list[str]:
        """Returns the names that are not built in: those of other packages and those registered at run time."""
        return [name for name in self.names() if name not in self._builtin]

    def items(self) -> Iterator[tuple[str, T]]:
        for name in self.names():
            yield name, self.get(name)

    def __contains__(self, name: Any) -> bool:
        return name in self._added or name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
