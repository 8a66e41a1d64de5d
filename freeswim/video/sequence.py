"""Numbered pictures in a folder -> one sequence without gaps."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from freeswim.errors import MediaError
from freeswim.video.opening import reason

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr", ".dpx")

_MAX_PICTURES = 1_000_000
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>[0-9]{1,18})(?P<after>\.[A-Za-z]+)", re.DOTALL)
_NAME_IT = "Name it by its pattern, such as shot.####.png."


@dataclass(frozen=True)
class Sequence:
    """Pictures that are the frames of one clip."""

    name: str  # shot.####.png
    first_number: int
    pictures: tuple[Path, ...]  # 1 or more, in order


def find_sequence(path: Path) -> Sequence | None:
    """What a folder or a pattern such as shot.####.png stands for; None for all other paths.

    `####` is a number of four digits or more, `#` one of any length. A file that has such a name
    itself is that file.

    Raises:
        MediaError: no pictures, more than one sequence, or a number is missing or there twice.
    """
    try:
        if path.is_dir():
            return _only(path)
        if "#" not in path.name or os.path.lexists(path):
            return None
        return _matching(path)
    except (OSError, ValueError) as error:
        raise MediaError(
            f"{path.name} cannot be opened: {reason(error)}.", hint="Check the path and its rights."
        ) from error


def _only(folder: Path) -> Sequence:
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in _names(folder):
        match = _NUMBERED.fullmatch(name)
        if match and match["after"].lower() in EXTENSIONS:
            numbered = found.setdefault((match["before"], match["after"]), [])
            numbered.append((int(match["number"]), match["number"]))
    if not found:
        raise MediaError(
            f"{folder.name} is a folder without numbered pictures.",
            hint="Name one media file, or a folder of pictures such as shot.0001.png.",
        )
    if len(found) > 1:
        names = sorted(_pattern(*parts, numbered) for parts, numbered in found.items())
        raise MediaError(
            f"{folder.name} holds {len(found)} sequences, of them {names[0]} and {names[1]}.",
            hint=_NAME_IT,
        )
    ((before, after), numbered) = found.popitem()
    return _whole(folder, before, after, numbered)


def _matching(path: Path) -> Sequence:
    before, hashes, after = re.split(r"(#+)(?=[^#]*\Z)", path.name)
    expected = re.compile(
        f"{re.escape(before)}([0-9]{{{len(hashes)},18}}){re.escape(after)}", re.DOTALL
    )
    matches = (expected.fullmatch(name) for name in _names(path.parent))
    numbered = [(int(match[1]), match[1]) for match in matches if match]
    if not numbered:
        raise MediaError(f"No picture is named {path.name}.", hint="Check the folder and the name.")
    return _whole(path.parent, before, after, numbered)


def _names(folder: Path) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                names.append(entry.name)
            if len(names) > _MAX_PICTURES:
                raise MediaError(
                    f"{folder.name} holds more than {_MAX_PICTURES} files.",
                    hint="Move the sequence into a folder of its own.",
                )
    return names


def _pattern(before: str, after: str, numbered: list[tuple[int, str]]) -> str:
    return before + "#" * min(len(digits) for _, digits in numbered) + after


def _whole(folder: Path, before: str, after: str, numbered: list[tuple[int, str]]) -> Sequence:
    numbered.sort()
    name = _pattern(before, after, numbered)
    width = min(len(digits) for _, digits in numbered)
    for (number, digits), (following, other) in pairwise(numbered):
        if following == number:
            raise MediaError(
                f"{before}{digits}{after} and {before}{other}{after} are the same frame.",
                hint="Remove one of them.",
            )
        if following > number + 1:
            num_missing = numbered[-1][0] - numbered[0][0] + 1 - len(numbered)
            missing = f"{before}{number + 1:0{width}}{after}"
            more = f" and {num_missing - 1} more" if num_missing > 1 else ""
            raise MediaError(
                f"{name} has gaps: {missing}{more} missing.",
                hint="Render the missing frames, or move the others away.",
            )
    pictures = tuple(folder / f"{before}{digits}{after}" for _, digits in numbered)
    return Sequence(name, numbered[0][0], pictures)
