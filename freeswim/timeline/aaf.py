"""A cut -> AAF, for Avid, by the adapter of OpenTimelineIO: an extra, as few need it.

Cuts, gaps, tracks, timecode and prompts. Dissolves become cuts and disabled clips gaps; markers,
takes and proxies have no place. Media is linked to, by its whole address, and not put in. Unlike
the other formats, a cut gives other bytes each time: its parts get new ids, and the hour.
"""

from __future__ import annotations

from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import opentimelineio as otio
from opentimelineio.opentime import RationalTime, TimeRange

from freeswim.errors import RequestError
from freeswim.timeline.cut import Clip, Cut, Dissolve, Gap, Media
from freeswim.timeline.timecode import is_drop_frame, nominal_rate, source_start
from freeswim.timeline.words import plain_text, xml_text


def write_aaf(cut: Cut, path: Path) -> list[str]:
    """Write the cut as an AAF file.

    Args:
        path: the file, in a folder that exists; what is there is replaced.

    Returns:
        What of the cut is not in it, as sentences for a person.

    Raises:
        RequestError: the adapter is not installed, the cut cannot be played, or media has another
            rate than the cut.
    """
    if not (find_spec("otio_aaf_adapter") and find_spec("aaf2")):
        raise RequestError(
            "AAF files need OpenTimelineIO's adapter, which is not installed.",
            hint="pip install 'freeswim[aaf]'",
        )
    cut.check()
    cut.check_one_rate()
    otio.adapters.write_to_file(
        _timeline(cut), str(path), adapter_name="AAF", use_empty_mob_ids=True
    )
    _correct_timecode(path, cut.rate)
    return _lost(cut)


def _timeline(cut: Cut) -> otio.schema.Timeline:
    start = RationalTime(cut.start_frame, float(cut.rate))
    timeline = otio.schema.Timeline(xml_text(cut.name), global_start_time=start)
    for track in cut.tracks:
        row = otio.schema.Track(xml_text(track.name), kind=otio.schema.TrackKind.Video)
        items = [item for item in track.playing().items if not isinstance(item, Dissolve)]
        # The adapter leaves out tracks without items; those above would fall down.
        for item in items or [Gap(cut.num_frames)]:
            row.append(_child(item, cut.rate))
        timeline.tracks.append(row)
    return timeline


def _child(item: Clip | Gap, rate: Fraction) -> otio.core.Composable:
    if isinstance(item, Gap):
        return otio.schema.Gap(source_range=_frame_range(0, item.num_frames, rate))
    media, first = item.media, source_start(item.media)
    reference = otio.schema.ExternalReference(
        target_url=(media.path.parent.resolve() / media.path.name).as_uri(),
        available_range=_frame_range(first, media.num_frames, rate),
        metadata={"AAF": {"EssenceDescription": _size(media)}},
    )
    prompt = item.metadata.get("prompt", media.metadata.get("prompt"))
    comments = {"Comments": xml_text(plain_text(prompt))} if prompt else {}
    return otio.schema.Clip(
        name=xml_text(item.name),
        media_reference=reference,
        source_range=_frame_range(first + item.start, item.num_frames, rate),
        metadata={"AAF": {"UserComments": comments}},
    )


def _size(media: Media) -> dict[str, int | str]:
    """Else the adapter writes 1920 × 1080."""
    aspect = Fraction(media.width, media.height)
    return {
        "StoredWidth": media.width,
        "StoredHeight": media.height,
        "ImageAspectRatio": f"{aspect.numerator}/{aspect.denominator}",
    }


def _frame_range(start_frame: int, num_frames: int, rate: Fraction) -> TimeRange:
    fps = float(rate)
    return TimeRange(RationalTime(start_frame, fps), RationalTime(num_frames, fps))


def _correct_timecode(path: Path, rate: Fraction) -> None:
    """The adapter (2.0) counts 60 frames of 50, and takes 24000/1001 for drop-frame."""
    aaf2 = import_module("aaf2")
    with aaf2.open(str(path), "rw") as file:
        slots = [slot for mob in file.content.mobs for slot in mob.slots]
        for slot in slots:
            if isinstance(slot.segment, aaf2.components.Timecode):
                slot.segment.fps = nominal_rate(rate)
                slot.segment.drop = is_drop_frame(rate)


def _lost(cut: Cut) -> list[str]:
    items = [item for track in cut.tracks for item in track.items]
    clips = list(cut.clips())
    num_dissolves = sum(isinstance(item, Dissolve) for item in items)
    num_disabled = sum(not clip.is_enabled for clip in clips)
    num_markers = len(cut.markers) + sum(len(clip.markers) for clip in clips)
    num_others = sum(len(clip.others) for clip in clips)
    return [
        f"{kind} in the AAF: {number}."
        for kind, number in {
            "Dissolves that are cuts": num_dissolves,
            "Disabled clips that are gaps": num_disabled,
            "Markers that are not": num_markers,
            "Other takes and proxies that are not": num_others,
        }.items()
        if number
    ]
