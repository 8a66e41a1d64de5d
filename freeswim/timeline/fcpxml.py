"""A cut -> FCPXML, for Final Cut Pro and Resolve.

The lowest track is the spine, whole with gaps; the clips of the others are connected to what of the
spine plays where they begin, in a lane per track. Clips that a dissolve joins butt together and the
transition straddles their cut: Final Cut truncates clips that overlap. In a lane they need a spine
of their own, whose times count from 0. Takes are auditions: the first of one is what plays. A clip
is picture and sound in one, so there are no tracks of sound.

Times are fractions of a second, each a whole number of frames. Times inside a clip are its media's
timecode. The order of elements and the attributes are those of Apple's DTD, 1.9 to 1.13.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from freeswim.errors import RequestError
from freeswim.timeline.cut import JSON, Clip, Cut, Dissolve, Gap, Item, Marker, Media, Track
from freeswim.timeline.timecode import is_drop_frame, source_start
from freeswim.timeline.words import plain_text, xml_text

VERSIONS = ("1.9", "1.10", "1.11", "1.12", "1.13")

# Final Cut's own effects.
_CROSS_DISSOLVE = "FxPlug:4731E73A-8DAC-4113-9A30-AE85B1761265"
_CROSS_FADE = "FFAudioTransition"
_TAKE = re.compile(r"take_\d+")


def fcpxml_text(cut: Cut, folder: Path, version: str = "1.11") -> str:
    """The cut as the text of an `.fcpxml` file; the same cut gives the same text.

    Args:
        folder: where the file will lie; media is addressed from it.
        version: one of VERSIONS. Final Cut opens those that it knows, and none that are newer.

    Raises:
        RequestError: the cut cannot be played, or media, a take or a proxy has another rate.
    """
    if version not in VERSIONS:
        raise RequestError(
            f"FCPXML {version} is not written here.", hint=f"One of {', '.join(VERSIONS)}."
        )
    cut.check()
    _check_rates(cut)
    root = Element("fcpxml", version=version)
    resources = _Resources(SubElement(root, "resources"), cut, folder)
    event = SubElement(SubElement(root, "library"), "event", name=xml_text(cut.name))
    project = SubElement(event, "project", name=xml_text(cut.name))
    project.append(_Sequence(cut, resources).element())
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{body}\n'


def takes_of(clip: Clip) -> list[Media]:
    """The clip's other takes, in their order."""
    return [clip.others[key] for key in sorted(clip.others) if _TAKE.fullmatch(key)]


def _check_rates(cut: Cut) -> None:
    cut.check_one_rate()
    for clip in cut.clips():
        proxies = [clip.others["proxy"]] if "proxy" in clip.others else []
        for media in (*takes_of(clip), *proxies):
            if media.frame_rate != cut.rate:
                raise RequestError(
                    f"{media.name} has {media.frame_rate} frames per second, the timeline "
                    f"{cut.rate}.",
                    hint="Conform it to the timeline's rate first, or leave it out.",
                )


class _Resources:
    """Formats, media files and effects: each once, and known to the rest by its id."""

    def __init__(self, element: Element, cut: Cut, folder: Path) -> None:
        self._element = element
        self._rate = cut.rate
        self._folder = folder
        self._formats: dict[tuple[int, int], str] = {}
        self._assets: dict[Path, str] = {}
        self._proxies: dict[Path, Media] = {}
        for clip in cut.clips():
            if "proxy" in clip.others:
                self._proxies.setdefault(clip.media.path.resolve(), clip.others["proxy"])
        self.sequence_format = self._format(cut.width, cut.height)
        for clip in cut.clips():
            for media in (clip.media, *takes_of(clip)):
                self.asset(media)
        self.dissolve = self.cross_fade = ""
        if _has_dissolves(cut.tracks):
            self.dissolve = self._effect("Cross Dissolve", _CROSS_DISSOLVE)
        if _has_dissolves(cut.sound_tracks().values()):
            self.cross_fade = self._effect("Audio Crossfade", _CROSS_FADE)

    def asset(self, media: Media) -> str:
        """The id of a media file."""
        place = media.path.resolve()
        if place not in self._assets:
            frame_format = self._format(media.width, media.height)
            self._assets[place] = self._next_id()
            self._write_asset(self._assets[place], media, frame_format)
        return self._assets[place]

    def _write_asset(self, asset_id: str, media: Media, frame_format: str) -> None:
        attributes = {
            "id": asset_id,
            "name": xml_text(media.name),
            "start": _time(source_start(media), self._rate),
            "duration": _time(media.num_frames, self._rate),
            "hasVideo": "1",
            "format": frame_format,
            "videoSources": "1",
        }
        if media.has_audio:
            channels = str(media.num_channels)
            attributes |= {"hasAudio": "1", "audioSources": "1", "audioChannels": channels}
        asset = SubElement(self._element, "asset", attributes)
        self._write_place(asset, "original-media", media)
        if proxy := self._proxies.get(media.path.resolve()):
            self._write_place(asset, "proxy-media", proxy)
        facts = {"reel": media.reel, "sha256": media.sha256}
        known = {name: text for name, text in facts.items() if text}
        _write_metadata(asset, {**media.metadata, **known})

    def _write_place(self, asset: Element, kind: str, media: Media) -> None:
        SubElement(asset, "media-rep", kind=kind, src=_address(media.path, self._folder))

    def _format(self, width: int, height: int) -> str:
        if (width, height) not in self._formats:
            attributes = {
                "id": self._next_id(),
                "frameDuration": _time(1, self._rate),
                "width": str(width),
                "height": str(height),
                "colorSpace": "1-1-1 (Rec. 709)",
            }
            SubElement(self._element, "format", attributes)
            self._formats[width, height] = attributes["id"]
        return self._formats[width, height]

    def _effect(self, name: str, uid: str) -> str:
        effect_id = self._next_id()
        SubElement(self._element, "effect", {"id": effect_id, "name": name, "uid": uid})
        return effect_id

    def _next_id(self) -> str:
        return f"r{len(self._element) + 1}"


@dataclass(frozen=True)
class _Placed:
    """A clip or a gap of the spine."""

    element: Element  # what others are connected to
    at: int  # frame of the cut
    num_frames: int
    start: int  # its own first frame: timecode of its media

    def inside(self, frame: int) -> int:
        """Where a frame of the cut is in its own time."""
        return self.start + frame - self.at


class _Sequence:
    def __init__(self, cut: Cut, resources: _Resources) -> None:
        self._cut = cut
        self._resources = resources

    def element(self) -> Element:
        cut = self._cut
        attributes = {
            "format": self._resources.sequence_format,
            "duration": self._time(cut.num_frames),
            "tcStart": self._time(cut.start_frame),
            "tcFormat": "DF" if is_drop_frame(cut.rate) else "NDF",
        }
        sequence = Element("sequence", attributes)
        spine = SubElement(sequence, "spine")
        placed = self._write_spine(spine, _filled(cut.tracks[0], cut.num_frames))
        for lane, track in enumerate(cut.tracks[1:], start=1):
            for at, items in _joined(track):
                self._connect(placed, lane, at, items)
        for marker in cut.markers:
            under = _under(placed, marker.frame)
            self._write_marker(under.element, marker, under.inside(marker.frame))
        for one in placed:
            _in_order(one.element)
        _write_metadata(sequence, cut.metadata)
        return sequence

    def _write_spine(self, spine: Element, track: Track) -> list[_Placed]:
        placed = []
        for index, (at, item) in enumerate(track.placed()):
            element = self._item(track, index, self._offset(self._cut.start_frame + at))
            spine.append(element)
            if not isinstance(item, Dissolve):
                active = element[0] if element.tag == "audition" else element
                placed.append(_Placed(active, at, item.num_frames, _own_start(item)))
        return placed

    def _connect(self, placed: list[_Placed], lane: int, at: int, items: list[Item]) -> None:
        """Clips, joined by dissolves if they are several, to what plays below their first frame."""
        under = _under(placed, at)
        where = {"lane": str(lane), **self._offset(under.inside(at))}
        joined = Track("", tuple(items))
        if len(items) == 1:
            under.element.append(self._item(joined, 0, where))
            return
        spine = SubElement(under.element, "spine", where)
        for index, (inner_at, _) in enumerate(joined.placed()):
            spine.append(self._item(joined, index, self._offset(inner_at)))

    def _item(self, track: Track, index: int, where: Mapping[str, str]) -> Element:
        item = track.items[index]
        length = {"duration": self._time(item.num_frames)}
        if isinstance(item, Gap):
            return Element("gap", {"name": "Gap", **where, "start": "0s", **length})
        if isinstance(item, Dissolve):
            transition = Element("transition", {"name": "Cross Dissolve", **where, **length})
            effect = {"ref": self._resources.dissolve, "name": "Cross Dissolve"}
            SubElement(transition, "filter-video", effect)
            if _is_heard(track, index):
                fade = {"ref": self._resources.cross_fade, "name": "Audio Crossfade"}
                SubElement(transition, "filter-audio", fade)
            return transition
        takes = takes_of(item)
        if not takes:
            return self._clip(item, where)
        audition = Element("audition", dict(where))
        audition.append(self._clip(item, {}))
        audition.extend(self._take(item, take) for take in takes)
        return audition

    def _clip(self, clip: Clip, where: Mapping[str, str]) -> Element:
        element = self._asset_clip(clip, clip.media, clip.start, clip.num_frames, where)
        SubElement(element, "note").text = xml_text(_note(clip))
        for marker in clip.markers:
            self._write_marker(element, marker, _own_start(clip) + marker.frame)
        span = {"start": element.attrib["start"], "duration": element.attrib["duration"]}
        SubElement(element, "keyword", {**span, "value": xml_text(_keywords(clip))})
        _write_metadata(element, clip.metadata)
        return element

    def _take(self, clip: Clip, take: Media) -> Element:
        """Another take: the same frames of it, as far as it has them."""
        num_frames = min(clip.num_frames, take.num_frames)
        start = min(clip.start, take.num_frames - num_frames)
        return self._asset_clip(clip, take, start, num_frames, {})

    def _asset_clip(
        self, clip: Clip, media: Media, start: int, num_frames: int, where: Mapping[str, str]
    ) -> Element:
        attributes = {
            "ref": self._resources.asset(media),
            **where,
            "name": xml_text(clip.name),
            "start": self._time(source_start(media) + start),
            "duration": self._time(num_frames),
            "tcFormat": "DF" if is_drop_frame(self._cut.rate) else "NDF",
        }
        if not clip.is_enabled:
            attributes["enabled"] = "0"
        return Element("asset-clip", attributes)

    def _write_marker(self, parent: Element, marker: Marker, start: int) -> None:
        facts = [f"{key}: {plain_text(value)}" for key, value in sorted(marker.metadata.items())]
        attributes = {
            "start": self._time(start),
            "duration": self._time(marker.num_frames),
            "value": xml_text(marker.text.partition("\n")[0]) or "Marker",
            "note": xml_text("\n".join([marker.text, *facts])),
        }
        SubElement(parent, "marker", attributes)

    def _offset(self, frames: int) -> dict[str, str]:
        return {"offset": self._time(frames)}

    def _time(self, frames: int) -> str:
        return _time(frames, self._cut.rate)


def _has_dissolves(tracks: Iterable[Track]) -> bool:
    return any(isinstance(item, Dissolve) for track in tracks for item in track.items)


def _is_heard(track: Track, index: int) -> bool:
    """Whether there is sound on both sides of a dissolve."""
    sides = track.items[index - 1], track.items[index + 1]
    return all(isinstance(side, Clip) and side.media.has_audio for side in sides)


def _own_start(item: Clip | Gap) -> int:
    return source_start(item.media) + item.start if isinstance(item, Clip) else 0


def _filled(track: Track, num_frames: int) -> Track:
    """The track as long as the cut: whatever is above has something to be connected to."""
    missing = num_frames - track.num_frames
    return Track(track.name, (*track.items, Gap(missing))) if missing else track


def _joined(track: Track) -> list[tuple[int, list[Item]]]:
    """Clips with their first frame; those that dissolves join together, with the dissolves."""
    groups: list[tuple[int, list[Item]]] = []
    is_joined = False
    for at, item in track.placed():
        if isinstance(item, Dissolve) or (is_joined and isinstance(item, Clip)):
            groups[-1][1].append(item)
        elif isinstance(item, Clip):
            groups.append((at, [item]))
        is_joined = isinstance(item, Dissolve)
    return groups


def _under(placed: list[_Placed], frame: int) -> _Placed:
    """What of the spine plays at a frame; its last after that."""
    return next((one for one in placed if one.at <= frame < one.at + one.num_frames), placed[-1])


_ORDER = {"note": 0, "marker": 2, "keyword": 2, "metadata": 3}  # others are connected: 1


def _in_order(element: Element) -> None:
    element[:] = sorted(element, key=lambda child: _ORDER.get(child.tag, 1))


def _note(clip: Clip) -> str:
    prompt = clip.metadata.get("prompt", clip.media.metadata.get("prompt", ""))
    return plain_text(prompt)


def _keywords(clip: Clip) -> str:
    """FreeSwim, and the clip's own; a comma separates them."""
    known = clip.metadata.get("keywords", ())
    own = [known] if isinstance(known, str) else known if isinstance(known, list | tuple) else []
    return ", ".join(["FreeSwim", *(plain_text(word).replace(",", " ") for word in own)])


def _write_metadata(parent: Element, facts: Mapping[str, JSON]) -> None:
    if not facts:
        return
    metadata = SubElement(parent, "metadata")
    for key, value in sorted(facts.items()):
        attributes = {
            "key": xml_text(f"com.freeswim.{key}"),
            "value": xml_text(plain_text(value)),
            "type": "string",
            "displayName": xml_text(key),
        }
        SubElement(metadata, "md", attributes)


def _time(frames: int, rate: Fraction) -> str:
    """Of a number of frames: `1001/24000s`; whole seconds without a fraction."""
    seconds = frames / rate
    if seconds.denominator == 1:
        return f"{seconds.numerator}s"
    return f"{frames * rate.denominator}/{rate.numerator}s"


def _address(path: Path, folder: Path) -> str:
    """The way from the folder to a file as a URL, so that both can be moved; else its whole one."""
    whole = path.parent.resolve() / path.name
    try:
        relative = Path(os.path.relpath(whole, folder.resolve())).as_posix()
    except ValueError:  # another drive of a Windows machine
        return whole.as_uri()
    return quote(os.fsencode(relative))
