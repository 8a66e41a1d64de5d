"""A place for a new file: made in a hidden folder beside its final name, put in place in one step.

The final name holds a whole file or nothing new, whoever else writes there and whatever dies.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from freeswim.errors import DiskFull, OutputError, OutputExists

LONGEST_NAME = 40  # characters of a prompt in a file name

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FOLDER_FAULTS = (*_FULL_DISK, errno.EACCES, errno.EPERM, errno.EROFS)
_CANNOT_LINK = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)


def take_name(prompt: str, seed: int, *, is_draft: bool) -> str:
    """The file name that a take of `prompt` gets where the person names none."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    if len(words) > LONGEST_NAME:
        words = words[: LONGEST_NAME + 1].rpartition("-")[0] or words[:LONGEST_NAME]
    return f"{words or 'take'}-{seed}{'-draft' if is_draft else ''}.mp4"


def free_path(path: Path, *beside: str, known: Collection[str] = ()) -> Path:
    """`path`, or the same with the first number at which nothing is there.

    Args:
        beside: suffixes of files that belong to it; they must be free as well.
        known: names that are not free, whatever is there.
    """
    number, free = 1, path
    while free.name in known or any(
        os.path.lexists(free.with_suffix(suffix)) for suffix in (path.suffix, *beside)
    ):
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def check_place(path: Path, overwrite: bool) -> None:
    """Refuse a place where no file can be put, before any work is done for it.

    Raises:
        OutputExists: the file is there and overwrite is not set.
        OutputError: no folder that can be written.
    """
    with as_output_error(path):
        if not path.parent.is_dir():
            raise OutputError(
                f"There is no folder {path.parent}.", hint="Create it, or name another."
            )
        if path.is_dir():
            raise OutputError(f"{path} is a folder.", hint="Name a file in it.")
        if not overwrite and os.path.lexists(path):
            raise _exists(path)
        # Tried, not asked: access() knows nothing of shares, of Windows' rights, of quotas.
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def check_disk(path: Path, num_bytes: int) -> None:
    """Refuse a place on a disk with less than `num_bytes` free.

    Raises:
        DiskFull: says how much is needed, and how much there is.
    """
    with as_output_error(path):
        free = shutil.disk_usage(path.parent).free
    if free < num_bytes:
        raise DiskFull(
            f"{path.parent} has {_amount(free)} free; up to {_amount(num_bytes)} are needed.",
            hint="Free some space, or name a folder on another disk.",
            details={"needed_bytes": num_bytes},
        )


def _amount(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.3g} MB"


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """A hidden folder beside the final name: same disk, one thing to remove."""
    with as_output_error(path):
        workspace = tempfile.TemporaryDirectory(
            prefix=f".{path.stem[:32]}.", suffix=".part", dir=path.parent.absolute()
        )
    with workspace as folder:
        yield Path(folder)


def publish(part: Path, path: Path, overwrite: bool) -> None:
    """Put the finished file in place, all of it on the disk.

    Raises:
        OutputExists: the name was taken meanwhile and overwrite is not set.
        OSError: the disk refused.
    """
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    if overwrite:
        part.replace(path)
    else:
        _place_new(part, path)
    keep_name(path.parent)


def keep_name(folder: Path) -> None:
    """The new name, too, survives a power cut, where the system can promise that."""
    if os.name != "posix":
        return
    with suppress(OSError):  # the file is in place: no failure any more
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _place_new(part: Path, path: Path) -> None:
    """Give the file its final name in one step that fails where the name is taken."""
    try:
        path.hardlink_to(part)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        _claim_and_replace(part, path)


def _claim_and_replace(part: Path, path: Path) -> None:
    """For disks without hard links (exFAT, some shares): take the name first, then fill it."""
    try:
        path.open("xb").close()
    except FileExistsError as error:
        raise _exists(path) from error
    try:
        part.replace(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Faults of the disk in the block become OutputError; `path` is the final name."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error.errno or 0) from error


def output_error(path: Path, fault: int, part: Path | None = None) -> OutputError:
    """What a fault number of the system means for this file.

    Args:
        path: the final name.
        fault: errno.
        part: the file under work, to say how far it came.
    """
    if fault not in _FULL_DISK:
        return OutputError(
            f"{path} cannot be written: {os.strerror(fault)}.",
            hint="Name a folder that can be written.",
        )
    written = part.stat().st_size if part and part.exists() else 0
    return DiskFull(
        f"{path} cannot be written: {os.strerror(fault)} after {written:,} bytes.",
        hint=f"Free more than {written:,} bytes in {path.parent}, or name a folder on another disk.",
    )


def _exists(path: Path) -> OutputExists:
    return OutputExists(
        f"{path} is already there.", hint="Name another file, or allow overwriting."
    )
