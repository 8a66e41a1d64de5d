"""Checkpoints that are on this machine already: found, compared to their checksums, and linked.

A folder is searched for what other programs leave: a cache of the Hub, a folder that `hf download`
filled, one of FreeSwim's own, or a plain copy. Files are known by name, size and checksum. The
published checksums come from what lies beside the files, else from the Hub.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from freeswim.errors import Cancelled, DownloadError, NotFound
from freeswim.models import download, hub
from freeswim.models.catalog import CATALOG, Checkpoint
from freeswim.output import as_output_error

MOST_FOLDERS = 20_000  # that are looked into
DEEPEST = 6  # levels below the folder that is named


@dataclass(frozen=True)
class Source:
    """A folder that seems to hold a checkpoint."""

    checkpoint: Checkpoint
    folder: Path


def find_sources(folder: Path) -> list[Source]:
    """Checkpoints of the catalog that `folder` seems to hold, by the names of their folders.

    Raises:
        NotFound: it holds none, or is no folder.
    """
    if not folder.is_absolute() or str(folder).startswith(("\\\\", "//")) or not folder.is_dir():
        raise NotFound("There is no such folder on this machine.", hint="Give its whole path.")
    found: dict[str, Source] = {}
    for place in _folders(folder):
        if (place / "model_index.json").is_file():
            for checkpoint in CATALOG:
                if _names(checkpoint, place) and checkpoint.name not in found:
                    found[checkpoint.name] = Source(checkpoint, place)
    if not found:
        raise NotFound(
            "The folder holds no model that FreeSwim knows.",
            hint="Choose a cache of the Hub, or a folder called like the repository, as "
            "Wan2.1-T2V-1.3B-Diffusers.",
        )
    return list(found.values())


def adopt(source: Source, *, stop: threading.Event, on_progress: download.OnProgress) -> bool:
    """Verify what `source` holds and link it, or copy it from another disk.

    Returns:
        Whether the checkpoint is installed now; else what is missing can be downloaded.

    Raises:
        Cancelled: `stop` was set; what was linked so far is kept.
        DownloadError: the published checksums are not beside the files and the Hub is not there.
        DiskFull, OutputError: it cannot be put where checkpoints are.
        Conflict: another process works on the checkpoint.
    """
    checkpoint = source.checkpoint
    with as_output_error(download.folder_of(checkpoint)), download.alone(checkpoint):
        record = download.begun(checkpoint, is_wanted=False)
        on_progress(download.Progress("listing", "", 0, 0))
        listing = record.listing or _listing(source)
        record = download.write_record(checkpoint, record, listing=listing)
        before = 0
        for file in listing.files:
            if file.name not in record.verified and _take_over(
                source, listing, file, before, stop, on_progress
            ):
                verified = (*record.verified, file.name)
                record = download.write_record(checkpoint, record, verified=verified)
            before += file.size
        if len(record.verified) < len(listing.files):
            return False
        download.install(checkpoint, listing)
        return True


def _folders(folder: Path) -> Iterator[Path]:
    """It and those below it, the shallow ones first; links to folders are not followed."""
    level, count = [folder], 0
    for _ in range(DEEPEST + 1):
        below: list[Path] = []
        for place in level:
            count += 1
            if count > MOST_FOLDERS:
                return
            yield place
            with suppress(OSError), os.scandir(place) as entries:
                below += [
                    Path(one)
                    for one in entries
                    if one.is_dir(follow_symlinks=False) and one.name != ".downloads"
                ]
        level = sorted(below)


def _names(checkpoint: Checkpoint, place: Path) -> bool:
    """Whether a folder's path, or what lies in it, says that it is this checkpoint."""
    if checkpoint.repository is None:
        return False
    manifest = download.read_manifest(place)
    if manifest is not None:
        return manifest.listing.repository == checkpoint.repository
    owner, _, name = checkpoint.repository.partition("/")
    cached = f"models--{owner}--{name}".lower()
    parts = [part.lower() for part in place.parts]
    return place.name.lower() in (name.lower(), checkpoint.name) or cached in parts


def _listing(source: Source) -> hub.Listing:
    """What the checkpoint consists of, as what lies beside it says, else the Hub."""
    beside = _listing_beside(source)
    if beside is not None and not download.lacking(source.checkpoint, source.folder):
        return beside
    try:
        return hub.list_files(source.checkpoint, beside.revision if beside else "")
    except DownloadError as error:
        missing = download.lacking(source.checkpoint, source.folder)
        why = f"{missing[0]} is missing in {source.folder.name}" if missing else "no checksums"
        raise DownloadError(
            f"{source.checkpoint.title}: {why}, and {error.message[0].lower()}{error.message[1:]}",
            hint=error.hint,
        ) from error


def _listing_beside(source: Source) -> hub.Listing | None:
    folder = source.folder
    manifest = download.read_manifest(folder)
    if manifest is not None:
        return manifest.listing
    revision = folder.name if folder.parent.name == "snapshots" else ""
    files: list[hub.RemoteFile] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not hub.is_needed(name) or not path.is_file():
            continue
        commit, etag = _said_by_hub(folder, name, path)
        revision = revision or commit
        known = {64: "sha256", 40: "git_sha1"}.get(len(etag))
        if known is None:
            return None
        files.append(hub.RemoteFile(name=name, size=path.stat().st_size, **{known: etag}))
    with suppress(ValidationError):
        return hub.Listing(
            repository=str(source.checkpoint.repository), revision=revision, files=tuple(files)
        )
    return None


def _said_by_hub(folder: Path, name: str, path: Path) -> tuple[str, str]:
    """(commit, checksum) of a file, as huggingface_hub keeps them; empty where it does not."""
    if path.is_symlink():  # of its cache: files are called like their checksums
        etag = path.resolve().name
        return "", etag if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag) else ""
    note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
    with suppress(OSError, UnicodeDecodeError):
        lines = note.read_text("utf-8")[:1000].splitlines()
        if len(lines) >= 2 and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", lines[1]):
            return lines[0], lines[1]
    return "", ""


def _take_over(
    source: Source,
    listing: hub.Listing,
    file: hub.RemoteFile,
    before: int,
    stop: threading.Event,
    on_progress: download.OnProgress,
) -> bool:
    """Link or copy one file; whether it is the published one."""
    path = source.folder / file.name
    if hub.size_of(path) != file.size or not path.is_file():
        return False

    def tell(done: int) -> None:
        on_progress(download.Progress("verifying", file.name, before + done, listing.num_bytes))

    if not hub.is_whole(path, file, stop=stop, on_bytes=tell):
        return False
    place = download.staging_of(source.checkpoint) / file.name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    part = place.with_name(f"{place.name}.part")
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(path.resolve())
    except OSError:  # on another disk, or one that knows no links
        _copy(path, part, stop)
        if not hub.is_whole(part, file, stop=stop):
            part.unlink()
            return False
    part.replace(place)
    return True


def _copy(path: Path, part: Path, stop: threading.Event) -> None:
    with path.open("rb") as content, part.open("wb") as copy:
        while block := content.read(hub.BLOCK):
            if stop.is_set():
                raise Cancelled
            copy.write(block)
