"""Resolve's objects as a script holds them, in the test's own process: for many quick questions."""

from __future__ import annotations

from typing import Any

from fake_resolve.objects import Thing
from fake_resolve.world import World


class Local:
    """A handle: truthy, with a `dir()` that is true to the version."""

    def __init__(self, world: World, thing: Thing) -> None:
        self._world, self._thing = world, thing

    def __dir__(self) -> list[str]:
        return self._world.listed(self._thing)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        shown = self._world.attribute(self._thing, name)
        if shown == self._world.call:
            return lambda *arguments: self._call(name, arguments)
        return wrapped(self._world, shown)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        answer = self._world.call(self._thing, name, tuple(_bare(one) for one in arguments))
        return wrapped(self._world, answer)


def wrapped(world: World, value: Any) -> Any:
    """What a script sees of a value."""
    if isinstance(value, Thing):
        return Local(world, value)
    if isinstance(value, dict):
        return {key: wrapped(world, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [wrapped(world, inner) for inner in value]
    return value


def _bare(value: Any) -> Any:
    if isinstance(value, Local):
        return value._thing
    if isinstance(value, dict):
        return {key: _bare(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_bare(inner) for inner in value]
    return value
