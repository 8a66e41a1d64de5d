"""Checkpoints on this disk: fetched, verified, never half-installed.

A checkpoint comes into a folder of its own beside the others, `.downloads/<name>`: each file grows
as `.part` and gets its name when its checksum is the published one. The folder as a whole gets its
place, where checkpoints are loaded from, in one step when nothing is missing. What is to become of
it is written there, so whoever is killed in between goes on where they were.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from freeswim import paths
from freeswim.errors import CheckpointCorrupt, CheckpointMissing, Conflict, DiskFull, DownloadError
from freeswim.models import hub
from freeswim.models.catalog import Checkpoint
from freeswim.output import as_output_error, keep_name

MANIFEST = "freeswim.json"  # in an installed folder
RECORD = "download.json"  # in one that is on its way
LARGEST_JSON = 8 * 2**20
SPARE_BYTES = 500 * 10**6  # that a download leaves on the disk

Stage = Literal["listing", "downloading", "verifying"]


@dataclass(frozen=True)
class Progress:
    """How far a checkpoint is."""

    stage: Stage
    file: str
    done_bytes: int  # of the whole checkpoint
    total_bytes: int  # 0: not known yet


OnProgress = Callable[[Progress], None]


class Manifest(BaseModel):
    """What an installed checkpoint consists of, beside it."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = 1
    listing: hub.Listing
    verified_at: float  # seconds UTC; when all of it was last compared to its checksums


class Said(BaseModel):
    """A failure that is kept."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    hint: str = ""


class Record(BaseModel):
    """A checkpoint on its way."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = 1
    listing: hub.Listing | None = None  # None: the Hub was not asked yet
    verified: tuple[str, ...] = ()  # files that are there and whole
    is_wanted: bool = True  # goes on by itself when the studio starts again
    is_damaged: bool = False  # was installed; what was wrong with it is gone
    failure: Said | None = None  # why it does not go on


@dataclass(frozen=True)
class OnDisk:
    """What there is of a checkpoint when nobody works on it."""

    state: Literal["available", "paused", "installed", "damaged"]
    done_bytes: int = 0
    total_bytes: int = 0  # 0: not known
    failure: Said | None = None


def folder_of(checkpoint: Checkpoint) -> Path:
    """Where it is loaded from."""
    if checkpoint.repository is None:
        return paths.demo_weights()
    return paths.models() / checkpoint.name


def staging_of(checkpoint: Checkpoint) -> Path:
    """Where it is until it is whole."""
    return paths.models() / ".downloads" / checkpoint.name


def is_installed(checkpoint: Checkpoint) -> bool:
    """Whether all of it is there, as far as names and sizes say."""
    folder = folder_of(checkpoint)
    return checkpoint.repository is None or (folder.is_dir() and not lacking(checkpoint, folder))


def look(checkpoint: Checkpoint) -> OnDisk:
    """What there is of it. Reads no weights."""
    folder, staging = folder_of(checkpoint), staging_of(checkpoint)
    if checkpoint.repository is None or is_installed(checkpoint):
        size = size_on_disk(folder)
        return OnDisk("installed", size, size)
    record = read_record(checkpoint)
    if record is None:
        if not folder.is_dir():
            return OnDisk("available", size_on_disk(staging))
        missing = lacking(checkpoint, folder)
        said = Said(
            code=CheckpointMissing.code,
            message=f"{missing[0]} is missing, and {len(missing) - 1} more."
            if len(missing) > 1
            else f"{missing[0]} is missing.",
            hint="Repair fetches what is missing and verifies the rest.",
        )
        return OnDisk("damaged", size_on_disk(folder), 0, said)
    total = record.listing.num_bytes if record.listing else 0
    state = "paused" if record.listing else "available"
    if record.is_damaged:
        state = "damaged"
    return OnDisk(state, _present_bytes(record, staging), total, record.failure)


def size_on_disk(folder: Path) -> int:
    """Bytes of all files under `folder`, which may be moved or removed meanwhile."""
    return sum(
        hub.size_of(Path(place) / name) for place, _, names in os.walk(folder) for name in names
    )


# ------------------------------------------------------------------------------------- the works


def download(checkpoint: Checkpoint, *, stop: threading.Event, on_progress: OnProgress) -> None:
    """Fetch what is missing of `checkpoint`, verify it and put it in place.

    Raises:
        Cancelled: `stop` was set; what came so far is kept.
        DownloadError: it does not come, or not as it was published.
        DiskFull: there is no room for it.
        OutputError: the folder of the checkpoints cannot be written.
        Conflict: another process fetches it.
    """
    with as_output_error(folder_of(checkpoint)), alone(checkpoint):
        record = begun(checkpoint, is_wanted=True)
        listing = record.listing
        if listing is None:
            on_progress(Progress("listing", "", 0, 0))
            listing = hub.list_files(checkpoint)
            record = write_record(checkpoint, record, listing=listing)
        _check_room(checkpoint, record, listing)
        for file in listing.files:
            is_there = hub.size_of(staging_of(checkpoint) / file.name) == file.size
            if is_there and file.name in record.verified:
                continue
            _bring(checkpoint, record, listing, file, stop, on_progress)
            record = write_record(checkpoint, record, verified=(*record.verified, file.name))
        install(checkpoint, listing)


def verify(checkpoint: Checkpoint, *, stop: threading.Event, on_progress: OnProgress) -> list[str]:
    """Compare an installed checkpoint to its checksums; names of files that are not as published.

    Where there are some, it is no longer installed: the rest waits for them in its staging folder.

    Raises:
        Cancelled: `stop` was set.
        DownloadError: it came without checksums, and the Hub does not say them.
        CheckpointMissing: it is not there.
        CheckpointCorrupt: it is damaged, and in a folder elsewhere that is left as it is.
        OutputError: it cannot be read.
    """
    folder = folder_of(checkpoint)
    if not folder.is_dir():
        raise CheckpointMissing(f"{checkpoint.title} is not on this machine.")
    with as_output_error(folder), alone(checkpoint):
        on_progress(Progress("listing", "", 0, 0))
        manifest = read_manifest(folder)
        listing = manifest.listing if manifest else hub.list_files(checkpoint)
        bad = _differing(folder, listing, stop, on_progress)
        if not bad:
            _write_json(folder / MANIFEST, Manifest(listing=listing, verified_at=time.time()))
            return []
        if folder.is_symlink():
            raise CheckpointCorrupt(
                f"{_listed(bad)}: not as published.", hint=f"Replace them in {folder.resolve()}."
            )
        _set_aside(checkpoint, folder, listing, bad)
        return bad


def delete(checkpoint: Checkpoint) -> None:
    """Remove all there is of it. A folder elsewhere that is linked to stays.

    Raises:
        OutputError: it cannot be removed.
        Conflict: another process works on it, or it is part of FreeSwim.
    """
    if checkpoint.repository is None:
        raise Conflict(f"{checkpoint.title} is part of FreeSwim.", hint="It takes no more room.")
    folder, staging = folder_of(checkpoint), staging_of(checkpoint)
    with as_output_error(folder), alone(checkpoint):
        if folder.is_symlink():
            folder.unlink()
        if staging.exists():
            (staging / RECORD).unlink(missing_ok=True)
            shutil.rmtree(staging)
        if folder.exists():
            folder.rename(staging)  # in one step: half of it is never installed
            shutil.rmtree(staging)


def install(checkpoint: Checkpoint, listing: hub.Listing) -> None:
    """Put a staged checkpoint, all of whose files were verified, in its place."""
    staging, folder = staging_of(checkpoint), folder_of(checkpoint)
    if missing := lacking(checkpoint, staging):
        raise DownloadError(
            f"{checkpoint.title} as the Hub has it lacks {_listed(missing)}.",
            hint="A newer FreeSwim may know it better.",
        )
    _write_json(staging / MANIFEST, Manifest(listing=listing, verified_at=time.time()))
    (staging / RECORD).unlink(missing_ok=True)
    staging.rename(folder)
    keep_name(folder.parent)


# --------------------------------------------------------------------------------- what is kept


def read_manifest(folder: Path) -> Manifest | None:
    """What an installed folder says it consists of; None: it came by other ways."""
    with suppress(OSError, ValidationError):
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    return None


def read_record(checkpoint: Checkpoint) -> Record | None:
    """How far a checkpoint is on its way; None: it is not."""
    with suppress(OSError, ValidationError):
        return Record.model_validate_json((staging_of(checkpoint) / RECORD).read_bytes())
    return None


def write_record(checkpoint: Checkpoint, record: Record, **changes: Any) -> Record:
    """Keep how far it is."""
    changed = record.model_copy(update=changes)
    _write_json(staging_of(checkpoint) / RECORD, changed)
    return changed


def note(checkpoint: Checkpoint, *, is_wanted: bool, failure: Said | None = None) -> None:
    """Keep whether it is to go on, and why not. Nothing is kept of what was never begun."""
    record = read_record(checkpoint) or (Record() if is_wanted else None)
    if record is not None:
        is_damaged = record.is_damaged and not is_wanted
        write_record(
            checkpoint, record, is_wanted=is_wanted, failure=failure, is_damaged=is_damaged
        )


def lacking(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """Names of files without which it is not whole; of a manifest, or of what is loaded."""
    manifest = read_manifest(folder)
    if manifest is not None:
        return [
            file.name
            for file in manifest.listing.files
            if hub.size_of(folder / file.name) != file.size
        ]
    return [name for name in _loaded(checkpoint, folder) if not (folder / name).is_file()]


def _loaded(checkpoint: Checkpoint, folder: Path) -> Iterator[str]:
    """Names of the files that loading reads; shards as their indexes list them."""
    yield from ("model_index.json", "scheduler/scheduler_config.json")
    yield from ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json")
    models = ["text_encoder", "vae", "transformer"]
    if checkpoint.num_experts == 2:
        models.append("transformer_2")
    if checkpoint.architecture.image_width:
        models.append("image_encoder")
        yield "image_processor/preprocessor_config.json"
    for model in models:
        yield f"{model}/config.json"
        names = next((names for _, _, names in os.walk(folder / model)), [])
        indexes = [name for name in names if name.endswith(".safetensors.index.json")]
        shards = {name for index in indexes for name in _shards(folder / model / index)}
        if not shards and not any(name.endswith(".safetensors") for name in names):
            stem = (
                "model" if model in ("text_encoder", "image_encoder") else "diffusion_pytorch_model"
            )
            shards = {f"{stem}.safetensors"}
        yield from (f"{model}/{shard}" for shard in sorted(shards))


def _shards(index: Path) -> set[str]:
    with suppress(OSError, ValueError, RecursionError):
        if index.stat().st_size <= LARGEST_JSON:
            said: object = json.loads(index.read_bytes())
            if isinstance(said, dict):
                weights: object = cast("dict[str, object]", said).get("weight_map")
                if isinstance(weights, Mapping):
                    names = cast("Mapping[str, object]", weights).values()
                    return {str(name) for name in names if re.fullmatch(r"[\w.-]+", str(name))}
    return set()


# -------------------------------------------------------------------------------------- inside


@contextmanager
def alone(checkpoint: Checkpoint) -> Generator[None]:
    """Only one process works on a checkpoint."""
    staging = staging_of(checkpoint)
    staging.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{staging}.lock", timeout=0):
            yield
    except Timeout as error:
        raise Conflict(
            f"Another FreeSwim works on {checkpoint.title}.", hint="Wait until it is done."
        ) from error


def begun(checkpoint: Checkpoint, *, is_wanted: bool) -> Record:
    """The record of what is there; a folder that came by other ways, and is not whole, is staged."""
    staging, folder = staging_of(checkpoint), folder_of(checkpoint)
    if folder.is_symlink():
        raise Conflict(
            f"{folder} leads to {folder.resolve()}, which is not whole.",
            hint="Remove the link, or complete what it leads to.",
        )
    if folder.is_dir():
        known = read_record(checkpoint)
        if known is not None and known.listing is not None:
            raise Conflict(
                f"{folder} is not whole, and a download of it is under way.",
                hint="Remove the folder; what was downloaded is kept elsewhere.",
            )
        shutil.rmtree(staging, ignore_errors=True)
        folder.rename(staging)
    staging.mkdir(parents=True, exist_ok=True)
    (staging / MANIFEST).unlink(missing_ok=True)
    record = read_record(checkpoint) or Record()
    return write_record(checkpoint, record, is_wanted=is_wanted, is_damaged=False, failure=None)


def _check_room(checkpoint: Checkpoint, record: Record, listing: hub.Listing) -> None:
    staging = staging_of(checkpoint)
    needed = listing.num_bytes - _present_bytes(record, staging)
    free = shutil.disk_usage(staging).free  # of the disk that it is really on
    if needed and free < needed + SPARE_BYTES:
        raise DiskFull(
            f"{checkpoint.title} needs {gigabytes(needed)} more; {paths.models()} has "
            f"{gigabytes(free)} free.",
            hint="Free some space, or put the models on another disk with FREESWIM_MODELS.",
            details={"needed_bytes": needed + SPARE_BYTES},
        )


def _bring(
    checkpoint: Checkpoint,
    record: Record,
    listing: hub.Listing,
    file: hub.RemoteFile,
    stop: threading.Event,
    on_progress: OnProgress,
) -> None:
    """One file, whole and verified, under its name in the staging folder."""
    staging = staging_of(checkpoint)
    place = staging / file.name
    part = place.with_name(f"{place.name}.part")
    others = _present_bytes(record, staging) - _present(file, staging)

    def tell(stage: Stage, done: int) -> None:
        on_progress(Progress(stage, file.name, others + done, listing.num_bytes))

    if place.exists():  # of an older folder, or a link that was just made
        if hub.is_whole(place, file, stop=stop, on_bytes=lambda n: tell("verifying", n)):
            return
        place.unlink()
    place.parent.mkdir(exist_ok=True)
    tell("downloading", _present(file, staging))
    hub.fetch(listing, file, part, stop=stop, on_bytes=lambda n: tell("downloading", n))
    if not hub.is_whole(part, file, stop=stop, on_bytes=lambda _: tell("verifying", file.size)):
        part.unlink()
        raise DownloadError(
            f"{file.name} came damaged: its checksum is not the published one. The "
            f"{gigabytes(file.size)} were thrown away.",
            hint="Go on, and it is fetched again; the other files are kept.",
        )
    with part.open("rb+") as content:
        os.fsync(content.fileno())
    part.replace(place)
    keep_name(place.parent)


def _differing(
    folder: Path, listing: hub.Listing, stop: threading.Event, on_progress: OnProgress
) -> list[str]:
    """Names of the files that are not as published."""
    bad: list[str] = []
    before = 0
    for file in listing.files:

        def tell(done: int, file: hub.RemoteFile = file, before: int = before) -> None:
            on_progress(Progress("verifying", file.name, before + done, listing.num_bytes))

        tell(0)
        if not hub.is_whole(folder / file.name, file, stop=stop, on_bytes=tell):
            bad.append(file.name)
        before += file.size
    return bad


def _set_aside(
    checkpoint: Checkpoint, folder: Path, listing: hub.Listing, bad: Sequence[str]
) -> None:
    """A damaged checkpoint is not installed any more; what is whole of it is kept."""
    staging = staging_of(checkpoint)
    if staging.exists():
        shutil.rmtree(staging)
    folder.rename(staging)
    for name in (*bad, MANIFEST):
        (staging / name).unlink(missing_ok=True)
    size = sum(file.size for file in listing.files if file.name in bad)
    said = Said(
        code=CheckpointCorrupt.code,
        message=f"{_listed(bad)}: not as published, and thrown away.",
        hint=f"Repair fetches {gigabytes(size)}.",
    )
    good = tuple(file.name for file in listing.files if file.name not in bad)
    record = Record(listing=listing, verified=good, is_wanted=False, is_damaged=True, failure=said)
    write_record(checkpoint, record)


def _present_bytes(record: Record, staging: Path) -> int:
    """Of the files that are listed, with what there is of those on their way."""
    if record.listing is None:
        return 0
    return sum(_present(file, staging) for file in record.listing.files)


def _present(file: hub.RemoteFile, staging: Path) -> int:
    place = staging / file.name
    part = place.with_name(f"{place.name}.part")
    return min(file.size, max(hub.size_of(place), hub.size_of(part)))


def _write_json(path: Path, content: BaseModel) -> None:
    """In one step, and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(content.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def gigabytes(num_bytes: int) -> str:
    """An amount as a person reads it."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
