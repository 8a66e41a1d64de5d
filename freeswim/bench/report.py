"""What `freeswim bench quality` says of its clips: means with intervals, claims, sheets, files."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from freeswim import __version__
from freeswim.bench.measures import Clip
from freeswim.bench.plan import (
    COMPARED,
    DRAFT,
    EXACT,
    FULL,
    WINDOW,
    Plan,
    file_stem,
)
from freeswim.machine import cpu_model
from freeswim.output import publish, workspace

SEAM_VISIBLE = 1.5  # steps of 255, 0.6 % of the range; true renders of 50 ponds have up to 1.0
OURS = ("FreeSwim", "native guidance", "interpolated")
_FIGURES = tuple(
    field.name
    for field in fields(Clip)
    if field.name not in ("prompt", "seed", "factor", "method", "strength")
)


@dataclass(frozen=True)
class Estimate:
    """A mean and how far its 95 % interval reaches to both sides."""

    mean: float
    half: float

    @property
    def is_above_zero(self) -> bool:
        """Whether all of the interval is."""
        return self.mean - self.half > 0


@dataclass(frozen=True)
class Row:
    """All clips of one size that were made one way."""

    factor: int
    method: str
    strength: float | None
    clips: int
    figures: dict[str, Estimate]  # by name; without those that nobody can measure


@dataclass(frozen=True)
class Claim:
    """What the numbers have to show, and what they do show."""

    text: str
    measured: str
    holds: bool


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of independent values with the 95 % interval of Student's t; one alone has none."""
    if len(values) < 2:
        return Estimate(values[0], 0.0)
    spread = statistics.stdev(values) / len(values) ** 0.5
    return Estimate(statistics.mean(values), _student(len(values) - 1) * spread)


def _student(freedom: int) -> float:
    """Student's 97.5 % point: Abramowitz and Stegun, 26.7.5; 1 % low at 5 degrees of freedom."""
    normal = statistics.NormalDist().inv_cdf(0.975)
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + first / freedom + second / freedom**2


def rows(clips: Sequence[Clip]) -> list[Row]:
    """The clips by size, method and strength, in the order in which they come."""
    groups: dict[tuple[int, str, float | None], list[Clip]] = {}
    for clip in clips:
        groups.setdefault((clip.factor, clip.method, clip.strength), []).append(clip)
    return [
        Row(*key, len(group), {name: estimate(of(group, name)) for name in _FIGURES
                               if of(group, name)})
        for key, group in groups.items()
    ]  # fmt: skip


def of(clips: Sequence[Clip], figure: str) -> list[float]:
    """One figure of all clips that have it."""
    values = [getattr(clip, figure) for clip in clips]
    return [value for value in values if value is not None]


# --------------------------------------------------------------------------------------- claims


def claims(clips: Sequence[Clip], plan: Plan) -> list[Claim]:
    """What a run of the pond has to show, at the preset's own strength."""
    strength, factor = plan.strengths[0], max(plan.factors)
    if not of(clips, "error"):
        return [_no_seams(clips)]
    largest = [clip for clip in clips if clip.factor == factor]
    error = {
        method: statistics.mean(of(_made(largest, method, level), "error"))
        for method, level in ((DRAFT, None), (EXACT, strength), (WINDOW, strength))
    }
    found = [
        Claim(
            f"At {factor}x FreeSwim's count error is at most 1.5 times the draft's.",
            f"{error[EXACT]:.2f} against {error[DRAFT]:.2f}",
            error[EXACT] <= 1.5 * error[DRAFT],
        ),
        Claim(
            f"At {factor}x FreeSwim's count error is less than half of window attention's alone.",
            f"{error[EXACT]:.2f} against {error[WINDOW]:.2f}",
            error[EXACT] < error[WINDOW] / 2,
        ),
        _no_seams(clips),
    ]
    for method in dict.fromkeys(clip.method for clip in clips):
        if method.startswith(OURS[1:]):
            found += [_no_worse(clips, method, size, strength) for size in plan.factors]
    return found


def _no_seams(clips: Sequence[Clip]) -> Claim:
    """Against full attention, which has no windows: a draft may have a line of its own."""
    whole = {_of_what(clip): clip.seam for clip in clips if clip.method == FULL}
    more = [clip.seam - whole[_of_what(clip)] for clip in clips if clip.method.startswith(OURS)]
    text = (
        f"In no clip of ours a line across it stands out by {SEAM_VISIBLE:g} of 255 steps more than "
        "in the same clip by full attention, which has no windows."
    )
    mean = statistics.mean(more)
    return Claim(text, f"at most {max(more):+.2f}, mean {mean:+.2f}", max(more) < SEAM_VISIBLE)


def _of_what(clip: Clip) -> tuple[str, int, int, float | None]:
    return clip.prompt, clip.seed, clip.factor, clip.strength


def _no_worse(clips: Sequence[Clip], method: str, factor: int, strength: float) -> Claim:
    """Clip by clip against the exact full branch, refreshed as often."""
    of_size = [clip for clip in clips if clip.factor == factor]
    pairs = zip(_made(of_size, method, strength), _made(of_size, EXACT, strength), strict=True)
    worse = estimate([(one.error or 0) - (best.error or 0) for one, best in pairs])
    text = f"At {factor}x {method} counts no worse than the exact full branch."
    return Claim(text, f"{worse.mean:+.2f} ± {worse.half:.2f} koi", not worse.is_above_zero)


def _made(clips: Sequence[Clip], method: str, strength: float | None) -> list[Clip]:
    return [clip for clip in clips if (clip.method, clip.strength) == (method, strength)]


# ---------------------------------------------------------------------------------------- files


def save_report(clips: Sequence[Clip], plan: Plan, units: Path, folder: Path) -> list[Path]:
    """Put quality.json, quality.md and a sheet for each size and strength into `folder`.

    Args:
        units: the folder of the run, with its pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheets = {
        f"{factor}x-{strength:g}.png": sheet(plan, units, factor, strength)
        for factor in plan.factors
        for strength in plan.strengths
    }
    content: dict[str, Any] = {
        "plan": asdict(plan),
        "machine": {"cpu": cpu_model(), "system": platform.system()},
        "versions": {
            "freeswim": __version__, "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("torch", "diffusers")},
        },
        "claims": [asdict(claim) for claim in claims(clips, plan)],
        "rows": [asdict(row) for row in rows(clips)],
    }  # fmt: skip
    # A line a clip: there are thousands.
    lines = ",\n".join(f"  {json.dumps(_rounded(asdict(clip)))}" for clip in clips)
    head = json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}")
    text = f'{head},\n "clips": [\n{lines}\n ]\n}}'
    paths = [folder / name for name in ("quality.json", "quality.md", *sheets)]
    with workspace(paths[0]) as parts:
        (parts / "quality.json").write_bytes(f"{text}\n".encode())
        (parts / "quality.md").write_bytes(markdown(clips, plan).encode())
        for name, picture in sheets.items():
            # 256 colours: a third of the size, and these pictures live in a repository.
            picture.quantize(256).save(parts / name, optimize=True)
        for path in paths:
            publish(parts / path.name, path, overwrite=True)
    return paths


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()
    }


_HEADINGS = {
    "error": ("count error", 2),
    "found": ("found", 2),
    "color": ("colour", 3),
    "layout_db": ("layout dB", 1),
    "fine": ("fine", 2),
    "seam": ("seam", 2),
    "flicker": ("flicker", 1),
    "repetition": ("repetition", 2),
    "seconds": ("s", 1),
}


def markdown(clips: Sequence[Clip], plan: Plan) -> str:
    """The table of every size, and the claims."""
    found = rows(clips)
    names = [name for name in _HEADINGS if any(name in row.figures for row in found)]
    lines = [
        f"Preset `{plan.preset}`, {plan.num_prompts} prompts x {plan.num_seeds} seeds, "
        f"{plan.frames} frames, {plan.refine_steps} steps in the whole schedule of the second pass.",
        "Mean ± half of its 95 % interval.",
        "",
    ]
    for factor in plan.factors:
        lines += [
            f"### {factor} times the native size",
            "",
            f"| method | strength | {' | '.join(_HEADINGS[name][0] for name in names)} |",
            f"|---|--:|{'--:|' * len(names)}",
        ]
        for row in found:
            if row.factor == factor:
                cells = [_cell(row.figures.get(name), _HEADINGS[name][1]) for name in names]
                strength = "" if row.strength is None else f"{row.strength:g}"
                lines.append(f"| {row.method} | {strength} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["| what the numbers have to show | measured | holds |", "|---|---|---|"]
    lines += [
        f"| {claim.text} | {claim.measured} | {'yes' if claim.holds else '**no**'} |"
        for claim in claims(clips, plan)
    ]
    return "\n".join(lines) + "\n"


def _cell(figure: Estimate | None, digits: int) -> str:
    if figure is None:
        return ""
    return f"{figure.mean:.{digits}f} ± {figure.half:.{digits}f}"


def sheet(plan: Plan, units: Path, factor: int, strength: float) -> Image.Image:
    """Middle frames, a line a prompt and a column a method."""
    shown = [unit for unit in plan.units() if unit.factor == factor and unit.is_shown]
    methods = _methods(units / f"{shown[0].name}.json", strength)
    table = [
        [Image.open(units / f"{file_stem(unit.name, *method)}.png") for method in methods]
        for unit in shown
    ]
    width, height = table[0][0].size
    font, gap, heading = ImageFont.load_default(11), 4, 20
    size = ((width + gap) * len(methods), heading + (height + gap) * len(shown))
    picture = Image.new("RGB", size, "#1c1c1c")
    draw = ImageDraw.Draw(picture)
    for column, (name, _) in enumerate(methods):
        draw.text((column * (width + gap) + 2, 3), name, fill="#dddddd", font=font)
        for line, cells in enumerate(table):
            picture.paste(cells[column], (column * (width + gap), heading + line * (height + gap)))
    return picture


def _methods(unit: Path, strength: float) -> list[tuple[str, float | None]]:
    """Methods of a unit with the strength of each, those of other strengths left out."""
    clips = json.loads(unit.read_text("utf-8"))
    return [
        (clip["method"], clip["strength"]) for clip in clips if clip["strength"] in (None, strength)
    ]


def blind_manifest(plan: Plan, units: Path, folder: Path) -> Path:
    """manifest.json in `folder`: pairs of clips of the largest size, for `freeswim bench blind`."""
    strength, pairs = plan.strengths[0], []
    for unit in plan.units():
        if unit.factor != max(plan.factors) or not unit.is_shown:
            continue
        ours = units / f"{file_stem(unit.name, EXACT, strength)}.mp4"
        for other in COMPARED[1:]:
            theirs = units / f"{file_stem(unit.name, other, strength)}.mp4"
            prompt = plan.all_prompts()[unit.prompt].text
            pairs.append({
                "prompt": prompt,
                "clips": {EXACT: str(ours.resolve()), other: str(theirs.resolve())},
            })  # fmt: skip
    place = folder / "manifest.json"
    with workspace(place) as parts:
        (parts / place.name).write_bytes((json.dumps({"pairs": pairs}, indent=1) + "\n").encode())
        publish(parts / place.name, place, overwrite=True)
    return place
