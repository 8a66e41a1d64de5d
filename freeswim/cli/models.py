"""`freeswim models`: the checkpoints of this machine, and how they come here.

The studio fetches them, so they go on when this command has ended.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeswim.cli import terminal
from freeswim.cli.options import add_command
from freeswim.errors import Cancelled, CheckpointCorrupt, NotFound, RequestError

if TYPE_CHECKING:
    from freeswim.studio.client import Client, Json
    from freeswim.studio.downloads import ModelNow, ModelsNow

REST_S = 0.3  # between two looks
BUSY = ("waiting", "downloading", "verifying")


def add_models_commands(commands: Any) -> None:
    """`models`, and what can be done with one."""
    models = add_command(commands, "models", _list, "the models of this machine, and more to have")
    actions = models.add_subparsers(metavar="COMMAND")
    for name, run, text in (
        ("download", _download, "fetch a model, or go on with it; Ctrl-C pauses"),
        ("verify", _verify, "compare a model to its published checksums"),
        ("delete", _delete, "remove a model, or what came of it so far"),
    ):
        command = add_command(actions, name, run, text)
        command.add_argument("name", metavar="NAME", help="see: freeswim models")
        if name == "delete":
            command.add_argument("--yes", action="store_true", help="do not ask")
    use = add_command(actions, "use", _use, "take models over that lie in a folder")
    use.add_argument("folder", type=Path, metavar="FOLDER", help="such as a cache of the Hub")


def _list(options: argparse.Namespace) -> None:
    from freeswim.studio.client import connect
    from freeswim.studio.downloads import Downloads

    client = connect()
    said = _parsed(client.get("/models")) if client else Downloads(lambda: None).look()
    if options.json:
        terminal.event("models", **said.model_dump(mode="json"))
        return
    from freeswim.models.download import gigabytes
    from freeswim.studio.downloads import words_of

    rows = [
        [
            model.name,
            gigabytes(model.size_bytes),
            f"{model.least_gpu_gb} GB" if model.least_gpu_gb else "any",
            words_of(model) + (" (recommended)" if model.is_recommended else ""),
            f"{model.speed}. {model.fidelity}. {model.licence}.",
        ]
        for model in said.models
    ]
    headings = ["model", "size", "GPU", "state", ""]
    terminal.table(headings, rows, words=("state", ""))
    for model in said.models:
        if model.failure:
            terminal.note(f"{model.name}: {model.failure.message} {model.failure.hint}")
    terminal.result(
        f"{said.folder}: {gigabytes(said.used_bytes)} used, {gigabytes(said.free_bytes)} free."
    )


def _download(options: argparse.Namespace) -> None:
    client = _studio()
    if _now(client, options.name).state != "installed":
        client.post(f"/models/{options.name}/download")
        _follow(client, [options.name], "download", options)
    _say_end(client, options.name, options)


def _verify(options: argparse.Namespace) -> None:
    client = _studio()
    _now(client, options.name)
    client.post(f"/models/{options.name}/verify")
    _follow(client, [options.name], "verify", options)
    _say_end(client, options.name, options)


def _delete(options: argparse.Namespace) -> None:
    from freeswim.models.download import gigabytes

    client = _studio()
    model = _now(client, options.name)
    size = gigabytes(model.done_bytes)
    if not options.yes:
        if not sys.stdin.isatty():
            raise RequestError(f"{model.title} is {size}.", hint="Say that it is meant: --yes.")
        terminal.note(f"Delete {model.title}, {size}? [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Cancelled("Nothing was deleted.")
    client.post(f"/models/{options.name}/delete")
    if options.json:
        terminal.event("deleted", name=options.name, bytes=model.done_bytes)
    else:
        terminal.result(f"{model.title}: {size} deleted.")


def _use(options: argparse.Namespace) -> None:
    client = _studio()
    before = {model.name: model.state for model in _parsed(client.get("/models")).models}
    said = client.post("/models/adopt", {"folder": str(options.folder.expanduser().absolute())})
    names = [
        model.name
        for model in _parsed(said).models
        if model.state in BUSY or model.state != before[model.name]
    ]
    _follow(client, names, "verify", options)
    for name in names:
        _say_end(client, name, options)


# -------------------------------------------------------------------------------------- inside


def _studio() -> Client:
    from freeswim.studio.client import connect_or_start

    return connect_or_start()


def _parsed(said: Json) -> ModelsNow:
    from freeswim.studio.downloads import ModelsNow

    return ModelsNow.model_validate(said)


def _now(client: Client, name: str) -> ModelNow:
    for model in _parsed(client.get("/models")).models:
        if model.name == name:
            return model
    raise NotFound(f"There is no model {name!r}.", hint="See: freeswim models.")


def _follow(client: Client, names: list[str], stage: str, options: argparse.Namespace) -> None:
    """Show how models come along until none of them does any more; Ctrl-C pauses them."""
    began = time.monotonic()
    try:
        with terminal.shown_progress(as_json=options.json) as on_progress:
            report = _reporter(on_progress, stage, began)
            while True:
                models = [_now(client, name) for name in names]
                report(models)
                if not any(model.state in BUSY for model in models):
                    return
                time.sleep(REST_S)
    except KeyboardInterrupt:
        for name in names:
            client.post(f"/models/{name}/pause")
        if not options.json:
            terminal.note("Paused; the same command goes on.")
        raise


def _reporter(
    on_progress: terminal.OnProgress, stage: str, began: float
) -> Callable[[list[ModelNow]], None]:
    """Tells of megabytes, once it is known how many there are."""
    last: tuple[int, int] | None = None

    def report(models: list[ModelNow]) -> None:
        nonlocal last
        if not all(model.is_exact for model in models):
            return
        done = sum(model.done_bytes for model in models) // 10**6
        total = sum(model.size_bytes for model in models) // 10**6
        seconds = time.monotonic() - began
        if last is None:
            on_progress(terminal.Stage(f"{stage}, MB", 0, max(1, total), seconds))
        if last != (done, total):
            last = done, total
            on_progress(terminal.Stage(f"{stage}, MB", done, max(1, total), seconds))

    return report


def _say_end(client: Client, name: str, options: argparse.Namespace) -> None:
    """What became of a model.

    Raises:
        FreeswimError: why it is not installed and whole.
    """
    from freeswim.studio.client import error_of
    from freeswim.studio.downloads import words_of

    model = _now(client, name)
    if model.state == "damaged":
        hint = f"Repair it: freeswim models download {name}."
        raise CheckpointCorrupt(
            f"{model.title}: {model.failure.message if model.failure else 'damaged.'}", hint=hint
        )
    if model.failure:
        raise error_of(model.failure.model_dump())
    if model.state != "installed" and not options.json:
        terminal.note(f"The rest can be fetched: freeswim models download {name}.")
    if options.json:
        terminal.event("model", **model.model_dump(mode="json"))
    else:
        place = f" in {model.folder}" if model.folder else ""
        terminal.result(f"{model.title}: {words_of(model)}{place}.")
