"""The studio that runs, its jobs and its takes, as a person names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freeswim.cli.options import MOST_LISTED
from freeswim.errors import NotFound, StudioError

if TYPE_CHECKING:
    from freeswim.studio.client import Client, Json

SHORTEST_ID = 4  # characters of an id's start; a shorter one is the start of too many
WHOLE_ID = 16


def running_studio() -> Client:
    """The studio that runs. Raises StudioError where none does."""
    from freeswim.studio.client import connect

    client = connect()
    if client is None:
        raise StudioError(
            "No studio runs.", hint="Start it: freeswim serve, or freeswim queue add ..."
        )
    return client


def find_job(client: Client, text: str) -> Json:
    """The job of this number, or whose id begins so."""
    if len(text) == WHOLE_ID:
        return client.get(f"/jobs/{text}")["job"] if text.isalnum() else _no("job", text)
    if text.isdecimal():
        before = int(text[:15]) + 1
        found = client.get("/jobs", view="history", before=before, limit=1)["jobs"]
        return found[0] if found and found[0]["number"] == int(text) else _no("job", text)
    before = 2**53
    matching: list[Json] = []
    while page := client.get("/jobs", view="history", before=before, limit=MOST_LISTED)["jobs"]:
        matching += [job for job in page if job["id"].startswith(text)]
        before = page[-1]["number"]
    return _only("job", text, matching)


def find_take(client: Client, text: str) -> Json:
    """The take whose file has this name, or whose id begins so."""
    name = Path(text).name
    takes: list[Json] = client.get("/takes", limit=MOST_LISTED)["takes"]
    named = [take for take in takes if name in (take["file"], Path(take["file"]).stem)]
    return _only("take", text, named or [take for take in takes if take["id"].startswith(text)])


def _only(what: str, text: str, found: Sequence[Json]) -> Json:
    if len(found) == 1 and len(text) >= SHORTEST_ID:
        return found[0]
    if not found:
        return _no(what, text)
    raise NotFound(f"{text} could be any of {len(found)} {what}s.", hint="Write more of it.")


def _no(what: str, text: str) -> Json:
    command = "queue list --history" if what == "job" else "takes list"
    raise NotFound(f"There is no {what} {text}.", hint=f"See: freeswim {command}.")
