"""A cut -> OpenTimelineIO, as the editors that read it agree.

The media keeps its truth: `available_range` counts its frames from 0 at its own rate, so a take of
16 frames per second is never retagged; the cut is in whole frames of a rate that timecode knows.
Zero-based media time is the only form that all engines tried here took: Kdenlive pins clips to
the end of their media where the range is in the file's timecode.

What is written is what the importers agree on: flat tracks, no effects, and URLs that are the same
raw and percent-encoded. Most editors know `DEFAULT_MEDIA` only; other takes and proxies lie beside
it under their own keys. OpenTimelineIO has no frame size; Premiere reads it from its own key.

Sound is on tracks of its own, above those of pictures: the same clips of the same media. That a
clip and its sound are linked, and how many channels there are, only Resolve's and Premiere's own
keys can say.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Literal, TypeAlias

import opentimelineio as otio
from opentimelineio.opentime import RationalTime, TimeRange

from freeswim import __version__
from freeswim.errors import RequestError
from freeswim.timeline.cut import JSON, Clip, Cut, Dissolve, Gap, Item, Marker, Media, Track
from freeswim.timeline.words import channel_type

Style: TypeAlias = Literal["relative", "absolute", "plain"]

_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]+")
_ESCAPES = frozenset("#%?")  # raw and decoded they mean different files
_INT64 = range(-(2**63), 2**63)  # OpenTimelineIO holds no larger integer
# Kdenlive's categories of markers are numbers: the places of these colours.
_KDENLIVE_TYPES = (
    *("PURPLE", "CYAN", "BLUE", "GREEN", "YELLOW"),
    *("ORANGE", "RED", "PINK", "MAGENTA"),
)


def otio_text(cut: Cut, *, folder: Path, style: Style = "relative") -> str:
    """The cut as the text of an `.otio` file; the same cut gives the same text.

    Args:
        folder: where the file will lie.
        style: of the media's addresses: `relative` to the folder, as most read; `absolute`,
            `file:///` with the whole path, as Premiere writes it; `plain`, the whole path with
            forward slashes, for a Resolve that finds no other.

    Raises:
        RequestError: the cut cannot be played, two media files share a name, or an address would
            mean another file to an editor that decodes it.
    """
    cut.check()
    _check_names(cut)
    address = {
        "relative": lambda media: relative_url(media.path, folder),
        "absolute": lambda media: file_url(media.path.absolute()),
        "plain": lambda media: media.path.absolute().as_posix(),
    }[style]
    return as_text(timeline_of(cut, address))


def as_text(timeline: otio.schema.Timeline) -> str:
    """What an `.otio` file of the timeline holds."""
    # Of the version that is written for; a later library would write schemas that others lack.
    versions = otio.versioning.fetch_map("OTIO_CORE", "0.18.1")
    return otio.adapters.write_to_string(timeline, "otio_json", target_schema_versions=versions)


def timeline_of(cut: Cut, address: Callable[[Media], str]) -> otio.schema.Timeline:
    """The cut as OpenTimelineIO's objects, its media at the addresses that are given."""
    timeline = _empty_timeline(cut)
    write = _Rows(cut, address)
    timeline.tracks.extend([write.pictures(index) for index in range(len(cut.tracks))])
    timeline.tracks.extend(
        [write.sound(index, track) for index, track in cut.sound_tracks().items()]
    )
    timeline.tracks.markers.extend(_marker(marker, 0, cut.rate) for marker in stack_markers(cut))
    return timeline


def stack_markers(cut: Cut) -> list[Marker]:
    """The cut's markers and those of its clips that play, at their frames of the cut, in order.

    Kdenlive misplaces the markers of a clip; those of the stack are right everywhere.
    """
    found = list(cut.markers)
    for track in cut.tracks:
        found += _markers_of(track)
    return sorted(found, key=lambda marker: marker.frame)


def _markers_of(track: Track) -> list[Marker]:
    return [
        Marker(start + marker.frame, marker.text, marker.color, marker.num_frames, marker.metadata)
        for start, clip in track.placed()
        if isinstance(clip, Clip) and clip.is_enabled
        for marker in clip.markers
    ]


def relative_url(path: Path, folder: Path) -> str:
    """The way from a folder to a file; the same raw and percent-encoded.

    Raises:
        RequestError: a name on the way is not, or the file is on another drive.
    """
    try:
        url = Path(os.path.relpath(path.parent.resolve() / path.name, folder.resolve())).as_posix()
    except ValueError:  # another drive of a Windows machine
        url = str(path)
    if not all(_SAFE_NAME.fullmatch(part) for part in url.split("/")):
        raise RequestError(
            f"Editors may not find {url} from the timeline.",
            hint="Put the timeline beside its media, and use only A-Z a-z 0-9 . _ - in its name.",
        )
    return url


def file_url(path: PurePath) -> str:
    """`file://` and the whole path as it is: Kdenlive and melt open no percent-encoded one.

    Raises:
        RequestError: decoded, the path would be another.
    """
    if _ESCAPES & set(path.as_posix()):
        raise RequestError(
            f"Editors may not find {path}.",
            hint="Keep # % and ? out of the names of the file and of its folders.",
        )
    return f"file://{'' if path.as_posix().startswith('/') else '/'}{_without_share(path)}"


def _without_share(path: PurePath) -> str:
    """The path; of \\\\server\\share the server, which a URL names where others name nothing."""
    return path.as_posix().removeprefix("//") if path.drive[:2] == "\\\\" else path.as_posix()


def _check_names(cut: Cut) -> None:
    known: dict[str, Path] = {}
    for media in cut.media():
        place = media.path.resolve()
        if known.setdefault(media.name.lower(), place) != place:
            raise RequestError(
                f"Two media files are called {media.name}.",
                hint="Rename one; editors take files of one name for the same file.",
            )


def _empty_timeline(cut: Cut) -> otio.schema.Timeline:
    """A timeline of the cut's rate and frame size, as FreeSwim and editors record it."""
    start = RationalTime(cut.start_frame, float(cut.rate))
    timeline = otio.schema.Timeline(cut.name, global_start_time=start)
    size = {"width": cut.width, "height": cut.height}
    facts = {"schema": 1, "app": "FreeSwim", "version": __version__, "fps": str(cut.rate), **size}
    timeline.metadata["freeswim"] = _stored({**cut.metadata, **facts})
    timeline.metadata["Resolve_OTIO"] = {"Resolve OTIO Meta Version": "1.0"}
    timeline.metadata["PremierePro_OTIO"] = {"MetadataVersion": "1.0"}
    timeline.tracks.metadata["PremierePro_OTIO"] = {
        "VideoFrameRate": float(cut.rate),
        "VideoResolution": size,
        "PixelAspectRatio": {"numerator": 1.0, "denominator": 1.0},
        "AudioFrameRate": 48000.0,
    }
    return timeline


class _Rows:
    """Tracks with their clips; a clip and its sound share a number."""

    def __init__(self, cut: Cut, address: Callable[[Media], str]) -> None:
        self._cut = cut
        self._address = address
        clips = (
            (index, at)
            for index, track in enumerate(cut.tracks)
            for at, item in track.placed()
            if isinstance(item, Clip)
        )
        self._links = {place: link for link, place in enumerate(clips, 1)}

    def pictures(self, index: int) -> otio.schema.Track:
        track = self._cut.tracks[index]
        row = otio.schema.Track(track.name, kind=otio.schema.TrackKind.Video)
        for at, item in track.placed():
            child = self._child(item, index, at)
            if isinstance(item, Clip) and item.media.has_audio:
                child.metadata["Resolve_OTIO"] = {"Link Group ID": self._links[index, at]}
            row.append(child)
        return row

    def sound(self, index: int, track: Track) -> otio.schema.Track:
        """Of the track of pictures of this index."""
        row = otio.schema.Track(track.name, kind=otio.schema.TrackKind.Audio)
        kind = channel_type(track.num_channels)
        row.metadata["Resolve_OTIO"] = {"Audio Type": kind, "Locked": False, "SoloOn": False}
        row.metadata["PremierePro_OTIO"] = {
            "AudioChannels": {"ChannelType": kind, "NumberOfChannels": track.num_channels}
        }
        for at, item in track.placed():
            child = self._child(item, index, at)
            if isinstance(item, Clip):
                self._say_channels(child, item.media.num_channels, self._links[index, at])
            row.append(child)
        return row

    def _say_channels(self, clip: otio.core.Composable, num_channels: int, link: int) -> None:
        channels = range(num_channels)
        clip.metadata["Resolve_OTIO"] = {
            "Link Group ID": link,
            "Channels": [{"Source Channel ID": one, "Source Track ID": 0} for one in channels],
        }
        clip.metadata["PremierePro_OTIO"]["AudioChannels"] = {
            "ChannelType": channel_type(num_channels),
            "SecondaryAssignments": [{"SecondaryChannelIndex": one} for one in channels],
        }

    def _child(self, item: Item, index: int, at: int) -> otio.core.Composable:
        rate = self._cut.rate
        if isinstance(item, Gap):
            return otio.schema.Gap(source_range=_frame_range(0, item.num_frames, rate))
        if isinstance(item, Dissolve):
            return otio.schema.Transition(
                transition_type=otio.schema.TransitionTypes.SMPTE_Dissolve,
                in_offset=RationalTime(item.before_cut, float(rate)),
                out_offset=RationalTime(item.after_cut, float(rate)),
            )
        return _clip(item, rate, self._address, self._links[index, at])


def _clip(
    clip: Clip, rate: Fraction, address: Callable[[Media], str], link: int
) -> otio.schema.Clip:
    facts = {"timeline_fps": str(rate), "media_fps": str(clip.media.frame_rate)}
    written = otio.schema.Clip(
        name=clip.name,
        source_range=_frame_range(clip.start, clip.num_frames, rate),
        metadata={
            "freeswim": _stored({**clip.metadata, **facts}),
            # Premiere fuses what shares one: a clip and its sound, and nothing else.
            "PremierePro_OTIO": {"LinkID": link},
        },
    )
    written.enabled = clip.is_enabled
    default = otio.schema.Clip.DEFAULT_MEDIA_KEY
    media = {**clip.others, default: clip.media}
    references = {key: _reference(media[key], address) for key in media}
    written.set_media_references(references, default)
    written.markers.extend(_marker(marker, clip.start, rate) for marker in clip.markers)
    return written


def _reference(media: Media, address: Callable[[Media], str]) -> otio.schema.ExternalReference:
    facts: dict[str, JSON] = {
        "frames": media.num_frames,
        "fps": str(media.frame_rate),
        "width": media.width,
        "height": media.height,
    }
    if media.has_timecode:
        facts["start_frame"] = media.start_frame
    facts |= {name: text for name in ("reel", "sha256") if (text := getattr(media, name))}
    reference = otio.schema.ExternalReference(
        target_url=address(media),
        available_range=_frame_range(0, media.num_frames, media.frame_rate),
        metadata={"freeswim": _stored({**media.metadata, **facts})},
    )
    reference.name = media.name
    return reference


def _marker(marker: Marker, start: int, rate: Fraction) -> otio.schema.Marker:
    return otio.schema.Marker(
        name=marker.text,  # in both: Resolve shows the name, Kdenlive the comment
        comment=marker.text,
        marked_range=_frame_range(start + marker.frame, marker.num_frames, rate),
        color=marker.color,
        metadata={
            "freeswim": _stored(marker.metadata),
            "kdenlive": {"type": kdenlive_type(marker)},
        },
    )


def kdenlive_type(marker: Marker) -> int:
    """Kdenlive's category of a marker; that of cyan where it has none of the colour."""
    color = marker.color if marker.color in _KDENLIVE_TYPES else "CYAN"
    return _KDENLIVE_TYPES.index(color)


def _frame_range(start_frame: int, num_frames: int, rate: Fraction) -> TimeRange:
    # A float of the exact fraction; of 23.976 OpenTimelineIO makes no timecode.
    fps = float(rate)
    return TimeRange(RationalTime(start_frame, fps), RationalTime(num_frames, fps))


def _stored(value: JSON, key: str = "") -> JSON:
    """A value as OpenTimelineIO can hold it; seeds are text, whatever their size."""
    if isinstance(value, Mapping):
        return {key: _stored(inner, key) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_stored(inner, key) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{key} is {value}.", hint="Metadata holds finite numbers.")
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_int and (key.endswith("seed") or value not in _INT64) else value
