"""Lua as free Resolve 21.1 gives it to a menu script: LuaJIT, with the sandbox's holes closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_resolve import World, wrapped
from fake_resolve.local import Local
from lupa import luajit21

from resolve_plugin.entries import lua_string

EXECUTOR = Path(__file__).parents[2] / "resolve_plugin" / "lua" / "executor.lua"
TEMPLATE = EXECUTOR.with_name("menu_script.lua.txt")

# resolve.md 0.2: what is nil there; `bit` and `jit` are left out besides, for nobody promises them.
HOLES = """
io, ffi, package, require, debug, bit, jit, python = nil
os.execute, os.remove, os.rename, os.getenv, os.exit, os.tmpname = nil
module, getfenv, setfenv, newproxy, load, loadstring = nil
print = function() end
"""
_lock = threading.Lock()  # making and loading runtimes


class Stopped(Exception):
    """Resolve has quit."""


class Script:
    """A menu entry's Lua script in a thread of its own, as Resolve runs one."""

    def __init__(self, world: World, mailbox: Path, verb: str) -> None:
        text = TEMPLATE.read_text("ascii")
        text = text.replace("@EXECUTOR@", lua_string(str(EXECUTOR)))
        text = text.replace("@MAILBOX@", lua_string(str(mailbox))).replace("@VERB@", f'"{verb}"')
        self._begin(world, lambda lua: lua.execute(text))

    def _begin(self, world: World, execute: Callable[[Any], Any]) -> None:
        self._world = world
        self._execute = execute
        self._stop = threading.Event()
        self.error = ""
        with _lock:
            self._lua = make_lua(world, self._wait)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Script:
        self._thread.start()
        return self

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Resolve quits: its scripts are gone without a word."""
        self._stop.set()
        self._thread.join(10)
        assert not self.is_running

    def _run(self) -> None:
        try:
            self._execute(self._lua)
        except Stopped:
            pass
        except Exception as error:  # asserted on by the test
            self.error = f"{type(error).__name__}: {error}"

    def _wait(self, seconds: float) -> None:
        """bmd.wait; faster than asked for, and the place where a script ends with Resolve."""
        time.sleep(min(seconds, 0.005))
        if self._stop.is_set():
            raise Stopped


class Installed(Script):
    """A menu entry as it is on the disk, which Lua reads itself."""

    def __init__(self, world: World, path: Path) -> None:
        self._begin(world, lambda lua: lua.globals().loadfile(str(path))())


def make_lua(world: World, wait: Any = lambda seconds: None) -> Any:
    """A runtime with what Resolve puts into a script."""
    lua = luajit21.LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute(HOLES)
    here = lua.globals()
    here.resolve = _to_lua(lua, wrapped(world, world.resolve))
    here.fusion = _to_lua(lua, wrapped(world, world.fusion))
    here.bmd = lua.table_from({"wait": wait})
    return lua


class _Handle:
    """An object of Resolve's in Lua: its methods are called with a colon."""

    def __init__(self, lua: Any, local: Local) -> None:
        self._lua, self._local = lua, local

    def __getattr__(self, name: str) -> Any:
        shown = getattr(self._local, name)
        if not callable(shown):
            return _to_lua(self._lua, shown)

        def method(_: Any, *arguments: Any) -> Any:
            return _to_lua(self._lua, shown(*map(_from_lua, arguments)))

        return method


def _to_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, Local):
        return _Handle(lua, value)
    if isinstance(value, dict):
        return lua.table_from({key: _to_lua(lua, inner) for key, inner in value.items()})
    if isinstance(value, list):
        # A hole stays one: `[None]` is a table without anything in it.
        return lua.table_from({n: _to_lua(lua, one) for n, one in enumerate(value, 1) if one})
    return value


def _from_lua(value: Any) -> Any:
    if isinstance(value, _Handle):
        return value._local
    if luajit21.lua_type(value) == "table":
        keys = list(value.keys())
        if keys == list(range(1, len(keys) + 1)):
            return [_from_lua(value[key]) for key in keys]
        return {key: _from_lua(value[key]) for key in keys}
    return value
