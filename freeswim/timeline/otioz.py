"""A cut and all its media in one `.otioz` file, which opens wherever it is moved.

OpenTimelineIO's own writer bundles the media that plays and no other take, refuses two files of
one name, and finds relative media from the process's folder (OpenTimelineIO issue 1621). This one
bundles every reference of every clip. The layout is OpenTimelineIO's: `version.txt`,
`content.otio`, and the media, stored as they are, under `media/`.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from freeswim.errors import MediaError
from freeswim.output import as_output_error, check_disk, check_place, publish, workspace
from freeswim.timeline.cut import Cut
from freeswim.timeline.otio import as_text, timeline_of

VERSION = "1.0.0"  # of the layout

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_DATE = (1980, 1, 1, 0, 0, 0)  # the same cut gives the same bytes


def write_otioz(path: Path, cut: Cut, *, overwrite: bool = False) -> None:
    """Writes the cut with all its media; all of it or nothing. The same cut gives the same bytes.

    Args:
        path: ends in .otioz, in a folder that exists.
        overwrite: whether a file that is already there may be replaced.

    Raises:
        RequestError: the cut cannot be played.
        MediaError: a media file is missing or cannot be read.
        OutputExists: the file is there and may not be replaced.
        OutputError: the file cannot be written.
    """
    cut.check()
    names = bundled_names(media.path for media in cut.media())
    check_place(path, overwrite)
    check_disk(path, sum(_size(media) for media in names))
    text = as_text(timeline_of(cut, lambda media: f"media/{names[media.path.resolve()]}"))
    with as_output_error(path), workspace(path) as folder:
        part = folder / path.name
        with zipfile.ZipFile(part, "w", allowZip64=True) as bundle:
            _write_text(bundle, "version.txt", VERSION)
            _write_text(bundle, "content.otio", text)
            for media, name in names.items():
                _write_media(bundle, f"media/{name}", media)
        publish(part, path, overwrite)


def bundled_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Names for files that share one folder: of A-Z a-z 0-9 . _ -, no two alike in any case."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        if (place := path.resolve()) in names:
            continue
        name = next(name for name in _candidates(path) if name.lower() not in taken)
        taken.add(name.lower())
        names[place] = name
    return names


def _candidates(path: Path) -> Iterator[str]:
    stem, suffix = (_UNSAFE.sub("_", part) for part in (path.stem, path.suffix))
    yield f"{stem}{suffix}"
    yield from (f"{stem}-{number}{suffix}" for number in count(2))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _missing(path) from error


def _write_text(bundle: zipfile.ZipFile, name: str, text: str) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    bundle.writestr(entry, text, zipfile.ZIP_DEFLATED)


def _write_media(bundle: zipfile.ZipFile, name: str, path: Path) -> None:
    """Stored, not packed: video does not get smaller, and a player can read it in place."""
    entry = zipfile.ZipInfo(name, _DATE)
    entry.file_size = _size(path)  # said beforehand: beyond 2 GB the header is another (ZIP64)
    try:
        file = path.open("rb")
    except OSError as error:
        raise _missing(path) from error
    with file, bundle.open(entry, "w") as copy:
        shutil.copyfileobj(file, copy, 2**20)


def _missing(path: Path) -> MediaError:
    return MediaError(
        f"The media {path} is missing or cannot be read.",
        hint="Put the file back, or leave the clip out.",
    )
