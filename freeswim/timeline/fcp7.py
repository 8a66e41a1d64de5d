"""A cut -> Final Cut Pro 7 XML (xmeml 5), which Premiere, Resolve and others read.

Frames of a clip count from its media's first, whatever timecode that has. Where a dissolve is, the
clips on both sides have -1 for their end, and their `in` and `out` hold the frames that it plays.
Its place against the cut is `start`, `center` or `end`, and no other: of a dissolve with 2 frames
before its cut and 5 after it the frames stay, and readers put the cut in its middle.

There is no place for names of tracks, colours of markers, takes and proxies.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from freeswim.timeline.cut import Clip, Cut, Dissolve, Marker, Media, Track
from freeswim.timeline.timecode import is_drop_frame, nominal_rate, source_start, timecode_of
from freeswim.timeline.words import plain_text, xml_text


def fcp7_text(cut: Cut, folder: Path) -> str:
    """The cut as the text of an `.xml` file; the same cut gives the same text.

    Args:
        folder: where the file will lie, as all writers are told. It makes no difference here: the
            format wants whole paths.

    Raises:
        RequestError: the cut cannot be played, or media has another rate than the cut.
    """
    cut.check()
    cut.check_one_rate()
    root = Element("xmeml", version="5")
    root.append(_Sequence(cut).element())
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE xmeml>\n{body}\n'


class _Sequence:
    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._files: dict[Path, int] = {}  # numbers
        self._num_clips = 0

    def element(self) -> Element:
        cut = self._cut
        sequence = Element("sequence", id="sequence-1")
        _write(sequence, "name", cut.name)
        _write(sequence, "duration", cut.num_frames)
        self._write_rate(sequence)
        self._write_timecode(sequence, cut.start_frame)
        video = SubElement(SubElement(sequence, "media"), "video")
        self._write_size(SubElement(video, "format"), cut.width, cut.height)
        for track in cut.tracks:
            self._write_track(video, track)
        for marker in cut.markers:
            _write_marker(sequence, marker, marker.frame)
        return sequence

    def _write_track(self, video: Element, track: Track) -> None:
        element = SubElement(video, "track")
        for index, (at, item) in enumerate(track.placed()):
            if isinstance(item, Dissolve):
                self._write_dissolve(element, item, at)
            elif isinstance(item, Clip):
                self._write_clip(element, item, at, *track.dissolves_at(index))
        _write(element, "enabled", "TRUE")
        _write(element, "locked", "FALSE")

    def _write_clip(
        self, track: Element, clip: Clip, at: int, before: Dissolve | None, after: Dissolve | None
    ) -> None:
        self._num_clips += 1
        element = SubElement(track, "clipitem", id=f"clipitem-{self._num_clips}")
        number, is_new = self._file_number(clip.media)
        start, end = clip.start, clip.start + clip.num_frames
        _write(element, "masterclipid", f"masterclip-{number}")
        _write(element, "name", clip.name)
        _write(element, "enabled", "TRUE" if clip.is_enabled else "FALSE")
        _write(element, "duration", clip.media.num_frames)
        self._write_rate(element)
        _write(element, "start", -1 if before else at)
        _write(element, "end", -1 if after else at + clip.num_frames)
        _write(element, "in", start - (before.before_cut if before else 0))
        _write(element, "out", end + (after.after_cut if after else 0))
        file = SubElement(element, "file", id=f"file-{number}")
        if is_new:
            self._write_file(file, clip.media)
        for marker in clip.markers:
            _write_marker(element, marker, clip.start + marker.frame)
        prompt = clip.metadata.get("prompt", clip.media.metadata.get("prompt"))
        if prompt:
            _write(SubElement(element, "comments"), "mastercomment1", plain_text(prompt))

    def _file_number(self, media: Media) -> tuple[int, bool]:
        """Of a media file, and whether it is its first time: then all of it is told."""
        place = media.path.resolve()
        is_new = place not in self._files
        return self._files.setdefault(place, len(self._files) + 1), is_new

    def _write_file(self, file: Element, media: Media) -> None:
        _write(file, "name", media.name)
        _write(file, "pathurl", _address(media.path))
        self._write_rate(file)
        _write(file, "duration", media.num_frames)
        self._write_timecode(file, source_start(media), media.reel)
        kinds = SubElement(file, "media")
        video = SubElement(kinds, "video")
        _write(video, "duration", media.num_frames)
        self._write_size(video, media.width, media.height)
        if media.has_audio:
            _write(SubElement(kinds, "audio"), "channelcount", 2)

    def _write_dissolve(self, track: Element, dissolve: Dissolve, at: int) -> None:
        element = SubElement(track, "transitionitem")
        _write(element, "start", at)
        _write(element, "end", at + dissolve.num_frames)
        _write(element, "alignment", _alignment(dissolve))
        self._write_rate(element)
        effect = SubElement(element, "effect")
        for name, value in {
            "name": "Cross Dissolve",
            "effectid": "Cross Dissolve",
            "effectcategory": "Dissolve",
            "effecttype": "transition",
            "mediatype": "video",
            "wipecode": 0,
            "wipeaccuracy": 100,
            "startratio": 0,
            "endratio": 1,
            "reverse": "FALSE",
        }.items():
            _write(effect, name, value)

    def _write_size(self, parent: Element, width: int, height: int) -> None:
        size = SubElement(parent, "samplecharacteristics")
        self._write_rate(size)
        _write(size, "width", width)
        _write(size, "height", height)
        _write(size, "anamorphic", "FALSE")
        _write(size, "pixelaspectratio", "square")
        _write(size, "fielddominance", "none")

    def _write_timecode(self, parent: Element, frame: int, reel: str = "") -> None:
        rate = self._cut.rate
        timecode = SubElement(parent, "timecode")
        self._write_rate(timecode)
        _write(timecode, "string", timecode_of(frame, rate))
        _write(timecode, "frame", frame)
        _write(timecode, "displayformat", "DF" if is_drop_frame(rate) else "NDF")
        if reel:
            _write(SubElement(timecode, "reel"), "name", reel)

    def _write_rate(self, parent: Element) -> None:
        _write_rate(parent, self._cut.rate)


def _write_rate(parent: Element, rate: Fraction) -> None:
    """24000/1001 is 24 frames of NTSC."""
    element = SubElement(parent, "rate")
    _write(element, "timebase", nominal_rate(rate))
    _write(element, "ntsc", "FALSE" if rate.denominator == 1 else "TRUE")


def _write_marker(parent: Element, marker: Marker, frame: int) -> None:
    facts = [f"{key}: {plain_text(value)}" for key, value in sorted(marker.metadata.items())]
    element = SubElement(parent, "marker")
    _write(element, "comment", "\n".join([marker.text, *facts]))
    _write(element, "name", marker.text.partition("\n")[0] or "Marker")
    _write(element, "in", frame)
    _write(element, "out", frame + marker.num_frames if marker.num_frames > 1 else -1)


def _alignment(dissolve: Dissolve) -> str:
    if not dissolve.before_cut:
        return "start"
    return "center" if dissolve.after_cut else "end"


def _address(path: Path) -> str:
    whole = (path.parent.resolve() / path.name).as_posix()
    return f"file://localhost/{quote(os.fsencode(whole.lstrip('/')))}"


def _write(parent: Element, name: str, value: str | int) -> None:
    SubElement(parent, name).text = xml_text(str(value))
