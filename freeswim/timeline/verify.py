"""An export is looked at as a stranger would: every file, every frame, every cut.

Timelines are read by `reading`, not by what wrote them. Green says that what is written is there,
whole and the same in every format; that a certain editor opens it can only be seen in that editor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from freeswim.errors import FreeswimError, MediaError
from freeswim.sidecar import file_sha256
from freeswim.timeline.delivery import MANIFEST, SCHEMA
from freeswim.timeline.reading import KINDS, Kind, Used, read_timeline
from freeswim.video.codecs import find_codec
from freeswim.video.reader import probe
from freeswim.video.writer import verify_video

LARGEST = 64 * 2**20  # bytes of a manifest

OnCheck = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """What came of looking at one file."""

    file: str  # from the export's folder
    what: str  # file, media, timeline
    problem: str = ""  # empty: it is as it should be

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problem


def verify(folder: Path, *, on_check: OnCheck | None = None) -> list[Finding]:
    """Everything that was looked at.

    Args:
        folder: of an export.
        on_check: called with each file's name before it is looked at; may raise to stop.

    Raises:
        MediaError: the folder holds no export.
    """
    manifest = _manifest(folder)
    checks = [*_files(folder, manifest), *_media(folder, manifest), *_timelines(folder, manifest)]
    findings: list[Finding] = []
    for file, what, check in checks:
        if on_check is not None:
            on_check(file)
        try:
            check()
            findings.append(Finding(file, what))
        except FreeswimError as error:
            findings.append(Finding(file, what, error.message))
        except OSError as error:
            findings.append(Finding(file, what, f"{file} cannot be read: {error.strerror}."))
    return findings


Check = tuple[str, str, Callable[[], None]]


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    hint = "Name the folder that freeswim export made."
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError("another schema")
        for name in (*content["files"], *(one["file"] for one in content["media"])):
            _inside(name)
        Fraction(content["rate"])
        for used in content["cut"]:
            Used.model_validate(used)
        if not set(content["sound"]) <= set(range(len(content["cut"]))):
            raise ValueError("sound of clips that are not there")
    except OSError as error:
        raise MediaError(f"{folder.name} holds no {MANIFEST}.", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(f"{path.name} is not of an export of FreeSwim.", hint=hint) from error
    return content


def _inside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise ValueError(name)


def _files(folder: Path, manifest: dict[str, Any]) -> Iterator[Check]:
    for name, sha256 in manifest["files"].items():

        def check(name: str = name, sha256: str = sha256) -> None:
            path = folder / name
            if not path.is_file():
                raise MediaError(f"{name} is gone.")
            if file_sha256(path) != sha256:
                raise MediaError(f"{name} was changed since the export.")

        yield name, "file", check
    known = {*manifest["files"], MANIFEST}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in known:

            def unknown(name: str = name) -> None:
                raise MediaError(f"{name} is not part of the export.")

            yield name, "file", unknown


def _media(folder: Path, manifest: dict[str, Any]) -> Iterator[Check]:
    for said in manifest["media"]:

        def check(said: dict[str, Any] = said) -> None:
            path, rate = folder / said["file"], Fraction(said["frame_rate"])
            codec = find_codec(said["codec"])
            verify_video(path, codec, said["width"], said["height"], rate, said["frames"])
            clip = probe(path)
            if clip.num_frames != said["frames"] or clip.frame_rate != rate:
                raise MediaError(
                    f"{path.name} has {clip.num_frames} frames at {clip.frame_rate}, not "
                    f"{said['frames']} at {rate}."
                )

        yield said["file"], "media", check


def _timelines(folder: Path, manifest: dict[str, Any]) -> Iterator[Check]:
    pictures = [Used.model_validate(used) for used in manifest["cut"]]
    expected = {"pictures": pictures, "sound": [pictures[index] for index in manifest["sound"]]}
    for name in manifest["timelines"]:
        if Path(name).suffix in (".aaf", ".py"):
            continue  # no reader of our own: their checksums were looked at

        def check(name: str = name) -> None:
            rate = Fraction(manifest["rate"])
            for kind in KINDS:
                if kind == "sound" and name.endswith(".mlt"):
                    continue  # its clips are heard where they are seen
                read = read_timeline(folder / name, rate, kind)
                if read.rate != rate:
                    raise MediaError(f"{name} says {read.rate} frames per second, not {rate}.")
                _compare(name, kind, read.used, _in_file(name, kind, expected[kind]))

        yield name, "timeline", check


def _in_file(name: str, kind: Kind, expected: list[Used]) -> list[Used]:
    """What a timeline should hold of the cut: as it counts tracks, and without what it cannot say."""
    if name.endswith(".edl"):
        track = {f"V{number}": number for number in range(1, 100)}.get(
            name.removesuffix(".edl").rpartition("_")[2], 1
        )
        expected = [one for one in expected if one.track == track]
    if name.endswith(".edl") or kind == "sound":  # A1 is the first track that has any
        numbers = {track: n for n, track in enumerate(sorted({one.track for one in expected}), 1)}
        expected = [one.model_copy(update={"track": numbers[one.track]}) for one in expected]
    cannot_disable = name.endswith((".mlt", ".kdenlive", ".edl"))
    return [one for one in expected if one.is_enabled or not cannot_disable]


def _compare(name: str, kind: Kind, found: Sequence[Used], wanted: Sequence[Used]) -> None:
    has_timecode = any(one.has_timecode for one in found)
    what = "Clip" if kind == "pictures" else "The sound of clip"
    for number, pair in enumerate(zip(found, wanted, strict=False), 1):
        one, other = (_essence(used, has_timecode) for used in pair)
        if one != other:
            raise MediaError(f"{what} {number} of {name} is {one}, not {other}.")
    if len(found) != len(wanted):
        heard = "" if kind == "pictures" else " with sound"
        raise MediaError(f"{name} has {len(found)} clips{heard}, not {len(wanted)}.")


def _essence(used: Used, has_timecode: bool) -> tuple[object, ...]:
    source = None if has_timecode else used.source_start
    return used.track, used.start, used.num_frames, used.file, source
