"""A cut -> AAF, for Avid, by the adapter of OpenTimelineIO: an extra, as few need it.

Cuts, gaps, tracks, sound, timecode and prompts. Dissolves become cuts and disabled clips gaps;
markers, takes and proxies have no place. Media is linked to, by its whole address, and not put in.
Unlike the other formats, a cut gives other bytes each time: its parts get new ids, and the hour.

A clip and its sound are slots of one master clip, which is how Avid knows that they belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import opentimelineio as otio
from opentimelineio.opentime import RationalTime, TimeRange

from freeswim.errors import RequestError
from freeswim.timeline.cut import Clip, Cut, Dissolve, Gap, Media, Track
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
    _correct(path, cut.rate)
    return _lost(cut)


def _timeline(cut: Cut) -> otio.schema.Timeline:
    start = RationalTime(cut.start_frame, float(cut.rate))
    timeline = otio.schema.Timeline(xml_text(cut.name), global_start_time=start)
    masters = _Masters()
    for index, track in enumerate(cut.tracks):
        timeline.tracks.append(_row(cut, index, track, otio.schema.TrackKind.Video, masters))
    for index, track in cut.sound_tracks().items():
        if any(isinstance(item, Clip) for item in track.playing().items):  # else a pan of nothing
            timeline.tracks.append(_row(cut, index, track, otio.schema.TrackKind.Audio, masters))
    return timeline


class _Masters:
    """The ids of master clips: one for a clip and its sound."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int, int], str] = {}

    def of(self, index: int, at: int) -> str:
        """Of the clip on the track of pictures of this index that begins at a frame."""
        new_id = import_module("aaf2.mobid").MobID.new
        return self._ids.setdefault((index, at), str(new_id()))


def _row(cut: Cut, index: int, track: Track, kind: str, masters: _Masters) -> otio.schema.Track:
    """A track; of sound, that of the track of pictures of this index."""
    row = otio.schema.Track(xml_text(track.name), kind=kind)
    for at, item in track.playing().placed():
        if isinstance(item, Gap):
            row.append(otio.schema.Gap(source_range=_frame_range(0, item.num_frames, cut.rate)))
        elif isinstance(item, Clip):
            essence = _size if kind == otio.schema.TrackKind.Video else _samples
            row.append(_clip(item, cut.rate, essence(item.media), masters.of(index, at)))
    if not len(row):  # the adapter leaves such tracks out; those above would fall down
        row.append(otio.schema.Gap(source_range=_frame_range(0, cut.num_frames, cut.rate)))
    return row


def _clip(
    clip: Clip, rate: Fraction, essence: Mapping[str, int | str], master_id: str
) -> otio.schema.Clip:
    media, first = clip.media, source_start(clip.media)
    reference = otio.schema.ExternalReference(
        target_url=(media.path.parent.resolve() / media.path.name).as_uri(),
        available_range=_frame_range(first, media.num_frames, rate),
        metadata={"AAF": {"EssenceDescription": essence}},
    )
    prompt = clip.metadata.get("prompt", media.metadata.get("prompt"))
    comments = {"Comments": xml_text(plain_text(prompt))} if prompt else {}
    return otio.schema.Clip(
        name=xml_text(clip.name),
        media_reference=reference,
        source_range=_frame_range(first + clip.start, clip.num_frames, rate),
        metadata={"AAF": {"UserComments": comments, "MobID": master_id}},
    )


def _samples(media: Media) -> dict[str, int | str]:
    """Of our masters: 48000 a second, of 24 bits."""
    block = 3 * media.num_channels  # bytes
    return {
        "Channels": media.num_channels,
        "QuantizationBits": 24,
        "BlockAlign": block,
        "AverageBPS": 48000 * block,
    }


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


def _correct(path: Path, rate: Fraction) -> None:
    """The adapter (2.0) counts 60 frames of 50, takes 24000/1001 for drop-frame, and pans per clip.

    A track of sound has one pan; the adapter gives it as many as the track has clips.
    """
    aaf2 = import_module("aaf2")
    with aaf2.open(str(path), "rw") as file:
        segments = [slot.segment for mob in file.content.mobs for slot in mob.slots]
        for segment in segments:
            if isinstance(segment, aaf2.components.Timecode):
                segment.fps = nominal_rate(rate)
                segment.drop = is_drop_frame(rate)
            elif isinstance(segment, aaf2.components.OperationGroup):
                segment.parameters.value = list(segment.parameters)[:1]


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
