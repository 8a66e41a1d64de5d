"""What a person is told of Resolve. Without Qt's widgets: facts of the studio -> words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from desktop import theme
from freeswim.studio.job import PlacingState, Shot, Take, Verdict
from freeswim.studio.resolve.links import LinkNow, WhereNow
from freeswim.studio.resolve.placer import ResolveNow, Wish
from freeswim.studio.resolve.planner import Place, Verb

VERBS: tuple[tuple[Verb, str, str], ...] = (
    ("generate_at_playhead", "&Generate at playhead", "A new shot where the playhead is"),
    ("regenerate_selection", "&Regenerate selection", "The selected clips, made again"),
    ("generate_from_markers", "Generate from &markers", "A shot for each marker with a prompt"),
    ("fill_gap", "&Fill gap", "From the clip before the gap to the one after it"),
    ("extend_clip", "&Extend clip", "Go on from the clip's last frame"),
    ("place_finished_takes", "&Place finished takes", "Those that are not on the timeline yet"),
)
_AT_PLAYHEAD = ("generate_at_playhead", "fill_gap")
_NO_PLAYHEAD = ("media", "photo", "fusion")  # pages
NOW_S = 5.0  # a contact within it was now


def owner_of(now: ResolveNow | None) -> LinkNow | None:
    """Who is connected and does what is asked."""
    links = now.links if now is not None else []
    return next((link for link in links if link.is_owner), None)


def state_words(now: ResolveNow | None) -> tuple[str, str]:
    """How Resolve stands in few words, and their colour."""
    if now is None:
        return "The studio is not there", theme.SECONDARY
    return {
        "connected": ("Connected", theme.DONE),
        "busy": ("Resolve waits for you", theme.WARNING),
        "not_connected": ("Not connected", theme.SECONDARY),
    }[now.state]


def status_words(now: ResolveNow | None) -> str:
    """For the status bar: `Resolve: Film / Timeline 1`."""
    link = owner_of(now)
    if now is None or link is None:
        return "Resolve: not connected"
    if now.state == "busy":
        return "Resolve waits for you"
    names = [link.where.project_name, link.where.timeline_name] if link.where else []
    return f"Resolve: {' / '.join(filter(None, names)) or 'connected'}"


def product_words(link: LinkNow) -> str:
    """`DaVinci Resolve 20.3.2.9, free: Python plugin`."""
    name = link.product.removesuffix(" Studio") or "DaVinci Resolve"
    edition = "Studio" if link.edition == "studio" else "free"
    way = "Python plugin" if link.transport == "http" else "Lua script"
    return f"{' '.join(filter(None, (name, link.version)))}, {edition}: {way}"


def timeline_words(where: WhereNow) -> str:
    """`Edit 3, 23.976 fps, starts at 01:00:00:00`."""
    if not where.timeline:
        return "none is open"
    rate = f"{float(Fraction(where.rate)):.5g} fps" if where.rate else ""
    rate += " drop-frame" if rate and where.is_drop_frame else ""
    start = f"starts at {where.start_timecode}" if where.start_timecode else ""
    return ", ".join(filter(None, (where.timeline_name or "unnamed", rate, start)))


def ago_words(seconds: float) -> str:
    """How long ago something was."""
    if seconds < NOW_S:
        return "now"
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def obstacle(verb: Verb, now: ResolveNow | None, *, num_to_place: int) -> str:
    """Why a verb cannot be begun, in a sentence; empty: it can.

    Args:
        num_to_place: finished takes of the open project that are not on the timeline.
    """
    link = owner_of(now)
    if now is None:
        return "The studio is not there."
    if link is None:
        return "Resolve is not connected."
    if now.state == "busy":
        return "Close the window that waits for you in Resolve."
    if (where := link.where) is None:
        return "Looking where you are in Resolve."
    if not where.project:
        return "No project is open in Resolve."
    if verb == "place_finished_takes":
        return "" if num_to_place else "No finished take of this project waits for its place."
    if not where.timeline:
        return "No timeline is open in Resolve."
    if verb in _AT_PLAYHEAD and where.page in _NO_PLAYHEAD:
        return "This page of Resolve has no playhead: go to the Edit or the Cut page."
    return ""


def installed_words(report: Mapping[str, Any]) -> str:
    """What the installer did; its report. Raises KeyError, TypeError: it is none."""
    step = str(report["next_step"])
    if left := [PurePath(path).name for path in report["left"]]:
        return f"Left as they are, for FreeSwim did not write them: {', '.join(left)}. {step}"
    what = "were installed" if report["written"] else "are there already"
    return f"The menu entries {what}. {step}"


# ------------------------------------------------------------------------- shots and their takes


def spot_of(shot: Shot | None) -> Place | None:
    """Where a shot goes in Resolve; None: nowhere, or in the words of another version."""
    try:
        return Place.model_validate(shot.placement.get("resolve")) if shot is not None else None
    except ValidationError:
        return None


def wish_of(shot: Shot) -> Wish | None:
    """What is asked for inside Resolve, as it was asked; None: nothing."""
    said = shot.placement.get("wish")
    if not isinstance(said, dict) or spot_of(shot) is None:
        return None
    try:
        return Wish.model_validate({**said, "shot": shot})
    except ValidationError:
        return None


def needs_prompt(shot: Shot) -> bool:
    """Whether a shot of Resolve's was asked for without a word of what it shows."""
    wish = wish_of(shot)
    if wish is None:
        return False
    return wish.request.get("kind") != "clip" and not wish.request.get("prompt")


def spot_words(place: Place) -> str:
    """`01:00:10:00 on Timeline 1`."""
    name = place.timeline_name or "the timeline"
    return f"{place.timecode(place.record_frame)} on {name}"


def length_words(place: Place) -> str:
    """`120 frames at 23.976 fps`, with handles where there are some."""
    head, tail = place.handles
    handles = f", handles {head} and {tail}" if head or tail else ""
    frames = f"{place.num_frames} frame{'' if place.num_frames == 1 else 's'}"
    return f"{frames} at {float(place.exact_rate):.5g} fps{handles}"


@dataclass(frozen=True)
class Placed:
    """What became of a take inside Resolve."""

    short: str  # for a tile
    sentence: str
    colour: str


def placed(take: Take, place: Place | None) -> Placed | None:
    """Where a take was put or why it was not; None: it goes to no timeline by itself."""
    placing = take.placing
    if placing is None:
        return None
    match placing.state:
        case PlacingState.PLACED:
            frame = placing.record_frame
            at = place.timecode(frame) if place is not None and frame is not None else ""
            track = f"V{placing.track}" if placing.track else "Placed"
            return Placed(f"{track} {at}".strip(), placing.message, theme.DONE)
        case PlacingState.POOL:
            return Placed("Media pool only", placing.message, theme.WARNING)
        case PlacingState.FAILED:
            return Placed("Not placed", placing.message, theme.FAILED)
        case PlacingState.WAITING:
            words = placing.message or "Goes to the timeline when Resolve is connected."
            return Placed("Waits for Resolve", words, theme.WARNING)
        case PlacingState.WANTED:
            return Placed("On its way", "On its way to the timeline.", theme.LINK)


def can_be_placed(take: Take, place: Place | None) -> bool:
    """Whether the studio would put a take on its timeline, now or again."""
    is_placed = take.placing is not None and take.placing.state == PlacingState.PLACED
    is_wanted = take.verdict in (Verdict.NEW, Verdict.APPROVED) and not take.is_draft
    return place is not None and is_wanted and not is_placed


def count_to_place(takes: Iterable[tuple[Take, Place | None]], project: str) -> int:
    """Finished takes of a project (its unique id) that are not on its timeline."""
    return sum(
        can_be_placed(take, place)
        and not (take.placing is not None and take.placing.state == PlacingState.POOL)
        for take, place in takes
        if place is not None and place.project == project
    )
