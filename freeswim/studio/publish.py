"""From an attempt's folder into the takes folder: verified, by one rename, as often as it takes.

Every step can be repeated: whoever dies between two of them, the next start does them again. Only
the daemon does this, so a worker that outlived its attempt can publish nothing.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from send2trash import send2trash

from freeswim import paths
from freeswim.errors import FreeswimError, MediaError, OutputError, OutputExists
from freeswim.output import free_path, publish
from freeswim.request import Request
from freeswim.sidecar import file_sha256, latents_path, read_sidecar, sidecar_path
from freeswim.studio.folders import JobFolder
from freeswim.studio.job import Job, NewTake

TAKE = "take.mp4"  # in an attempt's folder
BESIDE = (".json", ".latents.safetensors")  # of a take: its sidecar, its latents
LONGEST_NAME = 60  # characters of a shot in a file name
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # names that Windows keeps


def finished_attempt(folder: JobFolder, job: Job) -> Path | None:
    """The whole take that an attempt left, checked against the job; None: there is none."""
    for attempt in folder.attempts():
        media = attempt / TAKE
        try:
            check_take(media, Request.parse(job.request))
        except (FreeswimError, OSError):
            continue
        return media
    return None


def move_to_trash(media: Path) -> None:
    """Move a take and what lies beside it into the system's trash; what is gone already is no error.

    Raises:
        OutputError: the system does not take it; it is where it was.
    """
    try:
        for path in (media, *(media.with_suffix(suffix) for suffix in BESIDE)):
            if path.exists():
                send2trash(path)
    except OSError as error:
        raise OutputError(
            f"{media.name} cannot be moved to the trash: {error.strerror or error}.",
            hint="Reject it, or delete its files in the takes folder yourself.",
        ) from error


def check_take(media: Path, request: Request) -> dict[str, Any]:
    """The sidecar of a finished take, if its files are whole and of `request`.

    The worker has decoded every frame of what it wrote; the checksum says that this is still it.

    Raises:
        MediaError: they are not.
        OSError: they cannot be read.
    """
    sidecar = _whole(media)
    if sidecar.get("request_sha256") != request.digest():
        raise MediaError(f"{media.name} is of another request.")
    return sidecar


def name_take(job: Job, media: Path, *, number: int, known: Collection[str] = ()) -> NewTake:
    """What the take in an attempt's folder is to be called; its name is free by now.

    Args:
        number: of the take in its shot.
        known: names that stay those of other takes, though their files may be gone.

    Raises:
        MediaError: its sidecar does not say what it is.
    """
    request = Request.parse(job.request)
    name = f"{file_name(job.shot_name)}_take{number:02d}{'_draft' if request.draft else ''}.mp4"
    free = free_path(paths.takes() / name, *BESIDE, known=known)
    try:
        said = read_sidecar(media)["media"]
        return NewTake(
            id=secrets.token_hex(8),
            file=free.name,
            sha256=said["sha256"],
            width=said["width"],
            height=said["height"],
            frames=said["frames"],
            frame_rate=said["frame_rate"],
            seed=request.seed,
            is_draft=request.draft,
            number=number,
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise MediaError(f"{sidecar_path(media).name} does not say what the take is.") from error


def put_in_place(take: NewTake, media: Path | None) -> None:
    """Put a take's files into the takes folder. What is there of it already stays.

    Args:
        take: as it was named.
        media: in the attempt's folder; None: it is gone, so the take must be in place.

    Raises:
        OutputExists: a file of somebody else has the name by now.
        MediaError: neither place has the take.
        OSError: the disk refused.
    """
    target = paths.takes() / take.file
    target.parent.mkdir(parents=True, exist_ok=True)
    is_there = target.is_file() and not target.is_symlink() and file_sha256(target) == take.sha256
    if not is_there and (os.path.lexists(target) or (media and _has_neighbour(target))):
        raise OutputExists(f"{take.file} is already there.", hint="Another name is taken.")
    _clear(take)
    if media is None:
        if is_there and sidecar_path(target).is_file():
            return
        raise MediaError(f"{take.file} is gone.")
    sidecar = _whole(media)
    if sidecar["media"]["sha256"] != take.sha256:
        raise MediaError(f"{media.name} is another take.")
    with _workspace(take) as folder:
        if not is_there:
            _place(media, target, folder, overwrite=False)
        # The name is ours now: what lies beside it belongs to this take.
        sidecar["media"]["file"] = target.name
        if "latents" in sidecar:
            sidecar["latents"]["file"] = latents_path(target).name
            _place(latents_path(media), latents_path(target), folder, overwrite=True)
        part = folder / "take.json"
        part.write_text(json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n", "utf-8")
        publish(part, sidecar_path(target), overwrite=True)


def _has_neighbour(target: Path) -> bool:
    return any(os.path.lexists(target.with_suffix(suffix)) for suffix in BESIDE)


def _whole(media: Path) -> dict[str, Any]:
    """The sidecar of a take whose files are there and what it says they are."""
    sidecar = read_sidecar(media)
    files = {"media": media}
    if "latents" in sidecar:
        files["latents"] = latents_path(media)
    for path in (sidecar_path(media), *files.values()):
        if path.is_symlink() or not path.is_file():
            raise MediaError(f"{path.name} is gone.")
    for name, path in files.items():
        said: Any = sidecar.get(name)
        if not isinstance(said, dict) or file_sha256(path) != sidecar[name].get("sha256"):
            raise MediaError(f"{path.name} is not what was written.")
    return sidecar


def file_name(shot_name: str) -> str:
    """A shot's name as the start of a file name: safe on every system, at most 60 characters."""
    plain = unicodedata.normalize("NFKD", shot_name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-_")[:LONGEST_NAME].strip("-_")
    if not words:
        return "shot"
    return f"shot-{words}" if _DEVICES.match(words) else words


@contextmanager
def _workspace(take: NewTake) -> Generator[Path]:
    """A hidden folder beside the take, of a name of its own: the next try finds what one left."""
    folder = paths.takes() / f".{take.id}.part"
    folder.mkdir()
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            _clear(take)
        raise
    _clear(take)  # where that fails, the publication is tried again


def _clear(take: NewTake) -> None:
    """Remove what a try left that died, or that the disk refused."""
    folder = paths.takes() / f".{take.id}.part"
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)


def _place(part: Path, target: Path, folder: Path, *, overwrite: bool) -> None:
    """One file, all of it on the disk; by a link, or a copy where the disk is another."""
    beside = folder / target.name
    try:
        os.link(part, beside)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        shutil.copyfile(part, beside)
    publish(beside, target, overwrite)
