"""What a script holds of Resolve: remote objects, as Resolve's own are. Any Python from 3.6 on.

Handles are truthy whatever has become of them; `dir()` is true to the version; any other name is
None, so that `hasattr` is true of everything (resolve.md 2.1, LIM l.456).
"""

import json
import os
import socket
import threading
from typing import Any, Dict

_connection: Dict[str, Any] = {}


def scriptapp(name):
    """As a foreign process gets it: None where Resolve does not run, or is the free edition (0.4)."""
    return _ask({"do": "scriptapp", "name": name, "inside": bool(os.environ.get("FAKE_INSIDE"))})


def given():
    """The globals that a menu script finds (1.1)."""
    names = ("resolve", "fusion", "bmd")
    found = {name: _ask({"do": "global", "name": name}) for name in names}
    return dict(found, fu=found["fusion"], app=found["fusion"])


class Remote:
    def __init__(self, handle: int, kind: str) -> None:
        self._handle = handle
        self._kind = kind

    def __dir__(self):
        return _ask({"do": "dir", "handle": self._handle})

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        shown = _ask({"do": "attribute", "handle": self._handle, "name": name})
        if shown == "method":
            return lambda *arguments: _call(self._handle, name, arguments)
        return shown

    def __repr__(self):
        return self._kind + f" (0x{self._handle:08X}) [App: 'Resolve' on 127.0.0.1]"


def _call(handle, name, arguments):
    # resolve.md 2.6: objects answer the script's main thread only
    is_main = threading.current_thread() is threading.main_thread()
    asked = {"do": "call", "handle": handle, "name": name, "is_main": is_main}
    asked["arguments"] = [_packed(one) for one in arguments]
    return _ask(asked)


def _ask(asked: Any) -> Any:
    if "file" not in _connection:
        port = os.environ.get("FAKE_RESOLVE_PORT")
        if not port:
            return None
        try:
            connection = socket.create_connection(("127.0.0.1", int(port)))
        except OSError:
            return None
        _connection["socket"] = connection
        _connection["file"] = connection.makefile("rwb")
        _connection["lock"] = threading.Lock()
    with _connection["lock"]:
        try:
            _connection["file"].write(json.dumps(asked).encode() + b"\n")
            _connection["file"].flush()
            line = _connection["file"].readline()
        except OSError:
            line = b""
    return _unpacked(json.loads(line.decode())) if line else None


def _packed(value):
    if isinstance(value, Remote):
        return {"handle": value._handle}
    if isinstance(value, dict):
        return {"pairs": [[_packed(key), _packed(inner)] for key, inner in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_packed(inner) for inner in value]
    return value


def _unpacked(value):
    if isinstance(value, list):
        return [_unpacked(inner) for inner in value]
    if isinstance(value, dict):
        if "handle" in value:
            return Remote(value["handle"], value["kind"])
        return {_unpacked(key): _unpacked(inner) for key, inner in value["pairs"]}
    return value
