"""`freeswim bench blind MANIFEST`: pairs of clips for people who must not know which is which.

A manifest is JSON: {"pairs": [{"prompt": "...", "clips": {"one way": "a.mp4", "other way":
"b.mp4"}}]}; places are absolute or beside the manifest, and further keys are passed over. The kit
is a folder of plain files: for every pair two clips and a picture of their middle frames, a page
that shows them, a sheet to fill in, and the key, sealed in a folder that nobody opens before.
"""

from __future__ import annotations

import csv
import html
import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np
from PIL import Image

from freeswim.errors import RequestError
from freeswim.output import as_output_error, check_place, workspace
from freeswim.video.reader import probe, read_frames

LEFT, RIGHT, SAME = "left", "right", "same"
ANSWERS, KEY = "answers.csv", Path("key") / "key.json"
MAX_BYTES = 2**20  # of a manifest; a larger one is none


@dataclass(frozen=True)
class Pair:
    """Two clips of the same thing, made in two ways."""

    prompt: str
    clips: tuple[tuple[str, Path], tuple[str, Path]]  # (way, file) each


@dataclass(frozen=True)
class Score:
    """How two ways did against each other."""

    ways: tuple[str, str]
    preferred: tuple[int, int]  # how often the first, and the second
    same: int
    chance: float  # that coins would fall at least as unevenly


def make_kit(manifest: Path, folder: Path, *, seed: int = 0) -> Path:
    """Make the kit, whole or not at all; returns its page.

    Args:
        manifest: see above.
        folder: of the kit; it must not be there yet.
        seed: of the order of the pairs and of their sides.

    Raises:
        RequestError: the manifest is wrong.
        FreeswimError: a clip cannot be read, or the folder not be made.
    """
    folder = folder.expanduser().absolute()
    pairs = read_manifest(manifest)
    check_place(folder, overwrite=False)
    dice = random.Random(seed)
    dice.shuffle(pairs)
    with as_output_error(folder), workspace(folder) as parts:
        making = parts / folder.name
        (making / KEY).parent.mkdir(parents=True)
        key: dict[str, dict[str, str]] = {}
        for number, pair in enumerate(pairs, 1):
            sides = list(pair.clips)
            dice.shuffle(sides)
            name = f"pair-{number:02}"
            key[name] = {}
            for side, (way, file) in zip((LEFT, RIGHT), sides, strict=True):
                shutil.copyfile(file, making / f"{name}-{side}{file.suffix.lower()}")
                key[name][side] = way
            _side_by_side([file for _, file in sides]).save(making / f"{name}.png")
        (making / KEY).write_bytes((json.dumps(key, indent=1) + "\n").encode())
        (making / ANSWERS).write_bytes(_sheet(list(key)).encode())
        (making / "index.html").write_bytes(_page(pairs, making).encode())
        making.rename(folder)
    return folder / "index.html"


def read_manifest(path: Path) -> list[Pair]:
    """The pairs of a manifest.

    Raises:
        RequestError: it is not one; says where.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"{path.name} is too large for a manifest.")
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path.name} is no manifest: {error}.", hint="Give JSON.") from error
    pairs = content.get("pairs") if isinstance(content, dict) else None
    if not isinstance(pairs, list) or not pairs:
        raise RequestError(f"{path.name} has no pairs.", hint='Give {"pairs": [...]}.')
    return [_pair(path, number, pair) for number, pair in enumerate(pairs, 1)]


def _pair(path: Path, number: int, pair: object) -> Pair:
    clips = pair.get("clips") if isinstance(pair, dict) else None
    if not isinstance(clips, dict) or len(clips) != 2 or not all(
        isinstance(file, str) for file in clips.values()
    ):  # fmt: skip
        raise RequestError(
            f"Pair {number} of {path.name} is not two clips.",
            hint='Give {"prompt": "...", "clips": {"one way": "a.mp4", "other way": "b.mp4"}}.',
        )
    assert isinstance(pair, dict)
    first, second = ((way, path.parent / file) for way, file in clips.items())
    for _, file in (first, second):
        if not file.is_file():
            raise RequestError(f"Pair {number} of {path.name}: there is no file {file}.")
    if len({file.suffix.lower() for _, file in (first, second)}) > 1:
        raise RequestError(f"Pair {number} of {path.name}: the files' endings tell them apart.")
    return Pair(str(pair.get("prompt", "")), (first, second))


def score(kit: Path) -> list[Score]:
    """How the ways of a kit did, by its answers and its key; pairs without an answer do not count.

    Raises:
        RequestError: the kit is not one, or an answer is none of left, right and same.
    """
    try:
        key: Mapping[str, Mapping[str, str]] = json.loads((kit / KEY).read_text("utf-8"))
        answers = list(csv.DictReader(io.StringIO((kit / ANSWERS).read_text("utf-8-sig"))))
        given = {row["pair"]: (row["better"] or "").strip().lower() for row in answers}
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"{kit} is no kit of `freeswim bench blind`.") from error
    counts: dict[tuple[str, str], Counter[str]] = {}
    for name, sides in key.items():
        answer = given.get(name, "")
        if answer not in ("", LEFT, RIGHT, SAME):
            raise RequestError(
                f"{name} is answered {answer!r}.", hint=f"Write {LEFT}, {RIGHT} or {SAME}."
            )
        first, second = sorted(sides.values())
        counts.setdefault((first, second), Counter())[sides.get(answer, answer)] += 1
    return [
        Score(ways, (count[ways[0]], count[ways[1]]), count[SAME],
              coin_chance(count[ways[0]], count[ways[1]]))
        for ways, count in sorted(counts.items())
    ]  # fmt: skip


def coin_chance(heads: int, tails: int) -> float:
    """Chance that a fair coin falls at least as unevenly: the sign test, two-sided."""
    throws = heads + tails
    rarer = sum(comb(throws, count) for count in range(min(heads, tails) + 1))
    return min(1.0, 2 * rarer / 2**throws)


# ------------------------------------------------------------------------------------- the files


def _side_by_side(files: list[Path]) -> Image.Image:
    """The middle frames of two clips."""
    frames = []
    for file in files:
        middle = probe(file).num_frames // 2
        pixels = next(read_frames(file, start=middle, num_frames=1))
        frames.append((pixels >> 8).astype(np.uint8))
    height = max(frame.shape[0] for frame in frames)
    gap = 16
    picture = Image.new("RGB", (sum(f.shape[1] for f in frames) + gap, height), "#808080")
    picture.paste(Image.fromarray(frames[0]), (0, 0))
    picture.paste(Image.fromarray(frames[1]), (frames[0].shape[1] + gap, 0))
    return picture


def _sheet(names: list[str]) -> str:
    rows = [["pair", "better", "why"], *([name, "", ""] for name in names)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Which is better?</title>
<style>
body {{ background: #808080; font: 16px sans-serif; margin: 2em; }}
video {{ width: 48%; image-rendering: auto; }}
</style>
<h1>Which is better?</h1>
<p>Look at each pair as often as you like. Write <b>left</b>, <b>right</b> or <b>same</b> beside its
name in {answers}, and why, if you can say. Leave the folder {key} closed until you are done.</p>
{pairs}
"""
_PAIR = """<h2>{name}</h2>
<p>{prompt}</p>
<p><video src="{left}" autoplay loop muted controls></video>
<video src="{right}" autoplay loop muted controls></video></p>
<p>Middle frames: <a href="{name}.png">{name}.png</a></p>
"""


def _page(pairs: list[Pair], folder: Path) -> str:
    shown = []
    for number, pair in enumerate(pairs, 1):
        name = f"pair-{number:02}"
        left, right = (next(folder.glob(f"{name}-{side}.*")).name for side in (LEFT, RIGHT))
        prompt = html.escape(pair.prompt)
        shown.append(_PAIR.format(name=name, prompt=prompt, left=left, right=right))
    return _PAGE.format(answers=ANSWERS, key=KEY.parent, pairs="".join(shown))
