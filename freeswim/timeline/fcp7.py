"""A cut -> Final Cut Pro 7 XML (xmeml 5), which Premiere, Resolve and others read.

Frames of a clip count from its media's first, whatever timecode that has. Where a dissolve is, the
clips on both sides have -1 for their end, and their `in` and `out` hold the frames that it plays.
Its place against the cut is `start`, `center` or `end`, and no other: of a dissolve with 2 frames
before its cut and 5 after it the frames stay, and readers put the cut in its middle.

A track of sound has one channel, so a clip in stereo lies on two of them; Premiere puts both back on
one by attributes of its own. A clip and its channels name one another as linked.

There is no place for names of tracks, colours of markers, takes and proxies.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from freeswim.timeline.cut import Clip, Cut, Dissolve, Marker, Media, Track
from freeswim.timeline.timecode import is_drop_frame, nominal_rate, source_start, timecode_of
from freeswim.timeline.words import channel_type, plain_text, xml_text

_DISSOLVE: dict[str, str | int] = {
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
}
_CROSS_FADE: dict[str, str | int] = {
    "name": "Cross Fade (+3dB)",
    "effectid": "KGAudioTransCrossFade3dB",
    "effecttype": "transition",
    "mediatype": "audio",
    "startratio": 0,
    "endratio": 1,
    "reverse": "FALSE",
}
_EFFECTS = {"video": _DISSOLVE, "audio": _CROSS_FADE}  # by the kind of the track


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


@dataclass(frozen=True)
class _Row:
    """A track of the sequence: of pictures, or of one channel of their sound."""

    number: int  # among those of its kind, from 1
    pictures: int  # index of the cut's track that it is of
    channel: int  # from 1; 0: pictures
    num_channels: int  # of all of the sound; 0: pictures
    track: Track

    @property
    def kind(self) -> str:
        return "audio" if self.channel else "video"


@dataclass(frozen=True)
class _Linked:
    """A clip of a row, as what is linked with it names it."""

    name: str
    row: _Row
    number: int  # among the clips of its row, from 1


def _rows(cut: Cut) -> list[_Row]:
    rows = [_Row(index + 1, index, 0, 0, track) for index, track in enumerate(cut.tracks)]
    sound = [
        (index, channel, track.num_channels)
        for index, track in cut.sound_tracks().items()
        for channel in range(1, track.num_channels + 1)
    ]
    return rows + [
        _Row(number, index, channel, of, cut.tracks[index].sounding(channel))
        for number, (index, channel, of) in enumerate(sound, 1)
    ]


class _Sequence:
    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._files: dict[Path, int] = {}  # numbers
        self._rows = _rows(cut)
        self._linked: dict[tuple[int, int], list[_Linked]] = {}  # by track of pictures and frame
        self._link()

    def _link(self) -> None:
        names = (f"clipitem-{number}" for number in count(1))
        for row in self._rows:
            clips = (at for at, item in row.track.placed() if isinstance(item, Clip))
            for number, at in enumerate(clips, 1):
                linked = self._linked.setdefault((row.pictures, at), [])
                name = f"{linked[0].name}-{row.channel}" if row.channel else next(names)
                linked.append(_Linked(name, row, number))

    def element(self) -> Element:
        cut = self._cut
        sequence = Element("sequence", id="sequence-1")
        _write(sequence, "name", cut.name)
        _write(sequence, "duration", cut.num_frames)
        self._write_rate(sequence)
        self._write_timecode(sequence, cut.start_frame)
        media = SubElement(sequence, "media")
        video = SubElement(media, "video")
        self._write_size(SubElement(video, "format"), cut.width, cut.height)
        for row in self._rows:
            self._write_row(video if not row.channel else _sound_of(media), row)
        for marker in cut.markers:
            _write_marker(sequence, marker, marker.frame)
        return sequence

    def _write_row(self, parent: Element, row: _Row) -> None:
        element = SubElement(parent, "track", _premiere_track(row))
        for index, (at, item) in enumerate(row.track.placed()):
            if isinstance(item, Dissolve):
                self._write_dissolve(element, item, at, row.kind)
            elif isinstance(item, Clip):
                self._write_clip(element, item, at, row, *row.track.dissolves_at(index))
        _write(element, "enabled", "TRUE")
        _write(element, "locked", "FALSE")
        if row.channel:
            _write(element, "outputchannelindex", 1 + (row.channel - 1) % 2)

    def _write_clip(
        self,
        track: Element,
        clip: Clip,
        at: int,
        row: _Row,
        before: Dissolve | None,
        after: Dissolve | None,
    ) -> None:
        linked = self._linked[row.pictures, at]
        (own,) = (one for one in linked if one.row is row)
        element = SubElement(track, "clipitem", {"id": own.name, **_premiere_clip(row, clip)})
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
        if row.channel:
            source = SubElement(element, "sourcetrack")
            _write(source, "mediatype", "audio")
            _write(source, "trackindex", row.channel)
        for marker in clip.markers:
            _write_marker(element, marker, clip.start + marker.frame)
        for one in linked if len(linked) > 1 else ():
            _write_link(element, one)
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
            _write(SubElement(kinds, "audio"), "channelcount", media.num_channels)

    def _write_dissolve(self, track: Element, dissolve: Dissolve, at: int, kind: str) -> None:
        element = SubElement(track, "transitionitem")
        _write(element, "start", at)
        _write(element, "end", at + dissolve.num_frames)
        _write(element, "alignment", _alignment(dissolve))
        self._write_rate(element)
        effect = SubElement(element, "effect")
        for name, value in _EFFECTS[kind].items():
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


def _sound_of(media: Element) -> Element:
    """The element of all tracks of sound."""
    if (known := media.find("audio")) is not None:
        return known
    audio = SubElement(media, "audio")
    _write(audio, "numOutputChannels", 2)
    size = SubElement(SubElement(audio, "format"), "samplecharacteristics")
    _write(size, "depth", 16)
    _write(size, "samplerate", 48000)
    return audio


def _premiere_track(row: _Row) -> dict[str, str]:
    """Which of the tracks are one to Premiere."""
    if not row.channel:
        return {}
    return {
        "currentExplodedTrackIndex": str(row.channel - 1),
        "totalExplodedTrackCount": str(row.num_channels),
        "premiereTrackType": channel_type(row.num_channels),
    }


def _premiere_clip(row: _Row, clip: Clip) -> dict[str, str]:
    if not row.channel:
        return {}
    return {"premiereChannelType": channel_type(clip.media.num_channels).lower()}


def _write_link(parent: Element, linked: _Linked) -> None:
    link = SubElement(parent, "link")
    _write(link, "linkclipref", linked.name)
    _write(link, "mediatype", linked.row.kind)
    _write(link, "trackindex", linked.row.number)
    _write(link, "clipindex", linked.number)
    if linked.row.channel:
        _write(link, "groupindex", 1)


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
