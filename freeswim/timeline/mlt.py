"""A cut -> MLT XML, for melt and Shotcut, and a project of Kdenlive, which is MLT XML as well.

Frame accurate: the profile is written out, every time is a whole number of frames, media has a
producer of its own on every track, however clips are called, and its frames count from 0, whatever
timecode the file carries. Disabled clips are left out: melt would show them.

Kdenlive has its own project beside the `.otio`, because its import of OpenTimelineIO loses the
in-point of each track's last clip and all dissolves (measured with 26.08).

In Shotcut a clip on a track of pictures is heard as well; tracks have to be mixed, though, or only
the highest is. Kdenlive has tracks of sound below those of pictures; clips are grouped with theirs.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

from freeswim.timeline.cut import Clip, Cut, Dissolve, Gap, Media, Track
from freeswim.timeline.otio import kdenlive_type, stack_markers
from freeswim.timeline.words import xml_text


def mlt_text(cut: Cut, folder: Path) -> str:
    """The cut as the text of an `.mlt` file; the same cut gives the same text.

    Args:
        folder: where the file will lie; media is addressed from it.

    Raises:
        RequestError: the cut cannot be played, or media has another rate than the cut.
    """
    root = _document(cut, producer="cut")
    playlists = [_Playlist(root, index, folder) for index in range(len(cut.tracks))]
    for playlist, track in zip(playlists, cut.tracks, strict=True):
        playlist.write(track.playing())
    _black(root, cut.num_frames)
    tractor = _tractor(root, "cut", cut.num_frames)
    for name in ("black", *(playlist.name for playlist in playlists)):
        ElementTree.SubElement(tractor, "track", producer=name)
    for index in cut.sound_tracks():
        _mix_track(tractor, index + 1)
    return _text(root)


def kdenlive_text(cut: Cut, folder: Path) -> str:
    """The cut as the text of a `.kdenlive` project; the same cut gives the same text.

    Markers, the clips' as well, are guides. A dissolve is a mix of Kdenlive's: each track has two
    rows, and the clips of a dissolve lie in different ones. The tracks of sound come first, the
    lowest of them the lowest of all.

    Args:
        folder: where the file will lie; media is addressed from it.

    Raises:
        RequestError: the cut cannot be played, or media has another rate than the cut.
    """
    root = _document(cut, producer="main_bin")
    black = _black(root, cut.num_frames)
    _property(black, "kdenlive:playlistid", "black_track")
    bin_names = _Bin(root, cut, folder)
    pictures = [
        _KdenliveTrack(root, f"track{index}", track.playing(), bin_names, folder)
        for index, track in enumerate(cut.tracks)
    ]
    sound = [
        _KdenliveTrack(root, f"sound{index}", track.playing(), bin_names, folder, pictures[index])
        for index, track in cut.sound_tracks().items()
    ]
    sequence = _write_sequence(root, cut, [*reversed(sound), *pictures])
    _write_bin(root, cut, sequence, bin_names)
    project = _tractor(root, "project", cut.num_frames)
    _property(project, "kdenlive:projectTractor", "1")
    _cut_of(project, "track", sequence, 0, cut.num_frames)
    return _text(root)


class _Bin:
    """Kdenlive's list of media: one entry per file, which the clips name by its number."""

    FIRST = 4  # Kdenlive's own: 2 is the folder of sequences, 3 the sequence

    def __init__(self, root: ElementTree.Element, cut: Cut, folder: Path) -> None:
        self.media = {clip.media.path.resolve(): clip.media for clip in cut.clips()}
        self._numbers = {place: number for number, place in enumerate(self.media, self.FIRST)}
        for place, media in self.media.items():
            chain = write_producer(root, "chain", self.name(place), media, folder)
            self.mark(chain, media)

    def name(self, place: Path) -> str:
        return f"bin-media{self._numbers[place]}"

    def number(self, media: Media) -> str:
        return str(self._numbers[media.path.resolve()])

    def mark(self, chain: ElementTree.Element, media: Media) -> None:
        """Say which entry of the list a producer is."""
        _property(chain, "kdenlive:id", self.number(media))
        _property(chain, "kdenlive:control_uuid", _uuid(f"media {self.number(media)}"))
        _property(chain, "kdenlive:clip_type", "0")
        _property(chain, "kdenlive:folderid", "-1")


@dataclass
class _Row:
    """One of the two playlists of a track."""

    element: ElementTree.Element
    filled: int = 0  # frames

    def add(self, producer: str, at: int, start: int, num_frames: int) -> ElementTree.Element:
        if at > self.filled:
            ElementTree.SubElement(self.element, "blank", length=str(at - self.filled))
        self.filled = at + num_frames
        return _cut_of(self.element, "entry", producer, start, num_frames)


class _KdenliveTrack:
    """A track of pictures, or the sound of one: a tractor of two rows."""

    def __init__(
        self,
        root: ElementTree.Element,
        name: str,
        track: Track,
        media_bin: _Bin,
        folder: Path,
        pictures: _KdenliveTrack | None = None,  # what it is the sound of
    ) -> None:
        self.name = name
        self.pictures = pictures
        self.starts: dict[int, int] = {}  # of clips: where they are shown -> where they begin
        self._media_bin = media_bin
        self._rows = [
            _Row(ElementTree.Element("playlist", id=f"{name}-row{row}")) for row in (0, 1)
        ]
        self._producers = [
            _Producers(root, f"{name}-row{row}", folder, media_bin) for row in (0, 1)
        ]
        mixes = self._fill(track)
        tractor_at = len(root)
        tractor = _tractor(root, name, max(row.filled for row in self._rows))
        for row in reversed(self._rows):
            root.insert(tractor_at, row.element)
        _property(tractor, "kdenlive:track_name", track.name)
        _property(tractor, "kdenlive:timeline_active", "1")
        for row in self._rows:
            element = ElementTree.SubElement(tractor, "track", producer=row.element.attrib["id"])
            element.attrib["hide"] = "video" if pictures else "audio"
        if pictures:
            for element in (tractor, *(row.element for row in self._rows)):
                _property(element, "kdenlive:audio_track", "1")
        self._write_mixes(tractor, mixes)

    def _fill(self, track: Track) -> list[tuple[int, Dissolve, int]]:
        """Puts the clips in the rows; gives back the dissolves with the row that each comes from."""
        mixes = []
        current = 0
        for place, (at, item) in enumerate(track.placed()):
            if isinstance(item, Clip):
                head, tail = track.dissolves_at(place)
                current = 1 - current if head else 0
                before, after = (head.before_cut if head else 0), (tail.after_cut if tail else 0)
                entry = self._rows[current].add(
                    self._producers[current].name(item.media),
                    at - before,
                    item.start - before,
                    item.num_frames + before + after,
                )
                _property(entry, "kdenlive:id", self._media_bin.number(item.media))
                self.starts[at] = at - before
            elif isinstance(item, Dissolve):
                mixes.append((at, item, current))
        return mixes

    def _write_mixes(
        self, tractor: ElementTree.Element, mixes: list[tuple[int, Dissolve, int]]
    ) -> None:
        service = "mix" if self.pictures else "luma"
        starts = {at for at, _, _ in mixes}
        for at, dissolve, first_row in mixes:
            end = at + dissolve.num_frames
            # Kdenlive's own mixes end a frame late: its loader takes the length less one for the
            # duration. Where the next begins at once, that frame would show a part of the wrong
            # clip; of sound, nearly nothing of the right one. (0, 0) would mean always.
            is_cut_short = self.pictures and dissolve.after_cut and end in self.starts
            end = end - 1 if (end in starts or is_cut_short) and end > 1 else end
            mix = _transition(tractor, service, at, end)
            _property(mix, "kdenlive_id", service)
            _property(mix, "kdenlive:mixcut", str(dissolve.after_cut))
            _property(mix, "reverse", str(first_row))
            if self.pictures:
                _cross_fade(mix)


def _write_sequence(root: ElementTree.Element, cut: Cut, tracks: list[_KdenliveTrack]) -> str:
    name = _uuid("sequence")
    sequence = _tractor(root, name, cut.num_frames)
    guides = [
        {"pos": marker.frame, "comment": marker.text, "type": kdenlive_type(marker)}
        for marker in stack_markers(cut)
    ]
    properties = {
        "uuid": name,
        "control_uuid": name,
        "clipname": cut.name,
        "duration": str(cut.num_frames),
        "maxduration": str(cut.num_frames),
        "producer_type": "17",
        "id": "3",
        "clip_type": "0",
        "folderid": "2",
        "sequenceproperties.hasAudio": "1" if any(track.pictures for track in tracks) else "0",
        "sequenceproperties.hasVideo": "1",
        "sequenceproperties.activeTrack": str(len(tracks) - 1),
        "sequenceproperties.tracksCount": str(len(tracks)),
        "sequenceproperties.documentuuid": name,
        "sequenceproperties.groups": json.dumps(_groups(tracks)),
        "sequenceproperties.guides": json.dumps(guides, ensure_ascii=False),
    }
    for key, value in properties.items():
        _property(sequence, f"kdenlive:{key}", value)
    for producer in ("black", *(track.name for track in tracks)):
        ElementTree.SubElement(sequence, "track", producer=producer)
    for index, track in enumerate(tracks, 1):
        if track.pictures:
            mix = _mix_track(sequence, index)
            _property(mix, "kdenlive_id", "mix")
            _property(mix, "internal_added", "237")
            continue
        blend = ElementTree.SubElement(sequence, "transition")
        for key, value in {
            "a_track": "0",
            "b_track": str(index),
            "mlt_service": "qtblend",
            "kdenlive_id": "qtblend",
            "internal_added": "237",
            "always_active": "1",
        }.items():
            _property(blend, key, value)
    return name


def _groups(tracks: list[_KdenliveTrack]) -> list[dict[str, object]]:
    """A clip and its sound, by the numbers of their tracks and the frames at which they begin."""
    places = {track.name: number for number, track in enumerate(tracks)}
    return [
        {
            "type": "AVSplit",
            "children": [
                {"type": "Leaf", "leaf": "clip", "data": f"{places[one.name]}:{one.starts[at]}:-1"}
                for one in (sound.pictures, sound)
            ],
        }
        for sound in tracks
        if sound.pictures
        for at in sound.starts
    ]


def _write_bin(root: ElementTree.Element, cut: Cut, sequence: str, media_bin: _Bin) -> None:
    playlist = ElementTree.SubElement(root, "playlist", id="main_bin")
    properties = {
        "folder.-1.2": "Sequences",
        "sequenceFolder": "2",
        "docproperties.version": "1.1",
        "docproperties.profile": _profile_name(cut),
        "docproperties.uuid": sequence,
        "docproperties.opensequences": sequence,
        "docproperties.activetimeline": sequence,
        "docproperties.documentid": "1",
        "docproperties.audioChannels": "2",
        "docproperties.enableproxy": "0",
        "docproperties.generateproxy": "0",
    }
    for key, value in properties.items():
        _property(playlist, f"kdenlive:{key}", value)
    _property(playlist, "xml_retain", "1")
    _cut_of(playlist, "entry", sequence, 0, 1)
    for place, media in media_bin.media.items():
        _cut_of(playlist, "entry", media_bin.name(place), 0, media.num_frames)


def _profile_name(cut: Cut) -> str:
    """Of MLT's profiles the cut's; where there is none, one that Kdenlive does not know.

    Then it takes the document's own. Were no name given, it would take 25 frames per second. At
    the rates of 1001 it says that its own profile's rate is not standard (26.08) and goes on.
    """
    sizes = {(1280, 720): "atsc_720p", (1920, 1080): "atsc_1080p", (3840, 2160): "uhd_2160p"}
    size = sizes.get((cut.width, cut.height))
    rate = round(cut.rate) if cut.rate.denominator == 1 else round(cut.rate * 100)
    return f"{size}_{rate}" if size else "freeswim"


def _uuid(name: str) -> str:
    """The same in every project: Kdenlive tells only parts of one project apart by it."""
    return f"{{{uuid.uuid5(uuid.NAMESPACE_URL, f'freeswim {name}')}}}"


class _Playlist:
    """A track of an `.mlt` file: clips and gaps, and small tractors for its dissolves."""

    def __init__(self, root: ElementTree.Element, index: int, folder: Path) -> None:
        self.name = f"playlist{index}"
        self._root = root
        self._producers = _Producers(root, f"track{index}", folder)
        self._incoming = _Producers(root, f"track{index}-incoming", folder)
        self._element = ElementTree.Element("playlist", id=self.name)
        self._dissolves = count()

    def write(self, track: Track) -> None:
        _property(self._element, "shotcut:name", track.name)
        _property(self._element, "shotcut:video", "1")
        for index, item in enumerate(track.items):
            if isinstance(item, Gap):
                ElementTree.SubElement(self._element, "blank", length=str(item.num_frames))
            elif isinstance(item, Dissolve):
                first, second = track.items[index - 1], track.items[index + 1]
                assert isinstance(first, Clip) and isinstance(second, Clip)
                self._write_dissolve(first, item, second)
            else:
                self._write_alone(track, index, item)
        self._root.append(self._element)

    def _write_alone(self, track: Track, index: int, clip: Clip) -> None:
        """What a clip shows between its dissolves; nothing, where they meet."""
        head, tail = track.dissolves_at(index)
        start, end = clip.start, clip.start + clip.num_frames
        start, end = start + (head.after_cut if head else 0), end - (tail.before_cut if tail else 0)
        if start < end:
            _cut_of(self._element, "entry", self._producers.name(clip.media), start, end - start)

    def _write_dissolve(self, first: Clip, dissolve: Dissolve, second: Clip) -> None:
        name, num_frames = f"{self.name}-dissolve{next(self._dissolves)}", dissolve.num_frames
        producers = self._producers.name(first.media), self._incoming.name(second.media)
        starts = (
            first.start + first.num_frames - dissolve.before_cut,
            second.start - dissolve.before_cut,
        )
        tractor = _tractor(self._root, name, num_frames)
        _property(tractor, "shotcut:transition", "lumaMix")
        for producer, start in zip(producers, starts, strict=True):
            _cut_of(tractor, "track", producer, start, num_frames)
        _transition(tractor, "luma", 0, num_frames - 1)
        _cross_fade(_transition(tractor, "mix", 0, num_frames - 1))
        _cut_of(self._element, "entry", name, 0, num_frames)


class _Producers:
    """One per media file: two clips of it share one, two files of one name do not.

    Clips that play at the same time need one each: a decoder that is asked for two places of a file
    in turn gives wrong frames (melt 7.42).
    """

    def __init__(
        self,
        root: ElementTree.Element,
        prefix: str,
        folder: Path,
        media_bin: _Bin | None = None,  # of Kdenlive
    ) -> None:
        self._root = root
        self._prefix = prefix
        self._folder = folder
        self._bin = media_bin
        self._names: dict[Path, str] = {}

    def name(self, media: Media) -> str:
        place = media.path.resolve()
        if place not in self._names:
            self._names[place] = f"{self._prefix}-media{len(self._names)}"
            tag = "chain" if self._bin else "producer"
            element = write_producer(self._root, tag, self._names[place], media, self._folder)
            if self._bin:
                self._bin.mark(element, media)
        return self._names[place]


def write_producer(
    root: ElementTree.Element, tag: str, name: str, media: Media, folder: Path
) -> ElementTree.Element:
    element = ElementTree.SubElement(
        root, tag, {"id": name, "in": "0", "out": str(media.num_frames - 1)}
    )
    _property(element, "length", str(media.num_frames))
    _property(element, "eof", "pause")
    _property(element, "resource", resource(media.path, folder))
    _property(element, "mlt_service", "avformat")
    return element


def resource(path: Path, folder: Path) -> str:
    """The way from the folder to a file, so that both can be moved; else its whole path.

    MLT takes a relative path with a colon in it for the address of a service.
    """
    whole = path.parent.resolve() / path.name
    try:
        relative = Path(os.path.relpath(whole, folder.resolve())).as_posix()
    except ValueError:  # another drive of a Windows machine
        return whole.as_posix()
    return whole.as_posix() if ":" in relative else relative


def _document(cut: Cut, producer: str) -> ElementTree.Element:
    cut.check()
    cut.check_one_rate()
    root = ElementTree.Element(
        "mlt", {"LC_NUMERIC": "C", "version": "7.12.0", "title": cut.name, "producer": producer}
    )
    aspect = Fraction(cut.width, cut.height)
    profile = {
        # Kdenlive takes two profiles of one description for the same, whatever their rates.
        "description": f"FreeSwim {cut.width} × {cut.height}, {float(cut.rate):.2f} fps",
        "width": cut.width,
        "height": cut.height,
        "progressive": 1,
        "sample_aspect_num": 1,
        "sample_aspect_den": 1,
        "display_aspect_num": aspect.numerator,
        "display_aspect_den": aspect.denominator,
        "frame_rate_num": cut.rate.numerator,
        "frame_rate_den": cut.rate.denominator,
        "colorspace": 709,
    }
    ElementTree.SubElement(root, "profile", {name: str(value) for name, value in profile.items()})
    return root


def _black(root: ElementTree.Element, num_frames: int) -> ElementTree.Element:
    """What is seen where no clip is."""
    element = ElementTree.SubElement(
        root, "producer", {"id": "black", "in": "0", "out": str(num_frames - 1)}
    )
    _property(element, "length", str(num_frames))
    _property(element, "eof", "continue")
    _property(element, "resource", "black")
    _property(element, "mlt_service", "color")
    _property(element, "mlt_image_format", "rgba")
    return element


def _tractor(root: ElementTree.Element, name: str, num_frames: int) -> ElementTree.Element:
    return ElementTree.SubElement(
        root, "tractor", {"id": name, "in": "0", "out": str(num_frames - 1)}
    )


def _cut_of(
    parent: ElementTree.Element, tag: str, producer: str, start: int, length: int
) -> ElementTree.Element:
    span = {"in": str(start), "out": str(start + length - 1)}
    return ElementTree.SubElement(parent, tag, {"producer": producer, **span})


def _transition(
    parent: ElementTree.Element, service: str, start: int, end: int
) -> ElementTree.Element:
    """Of the tracks 0 and 1 of a tractor; the end is its last frame."""
    element = ElementTree.SubElement(parent, "transition", {"in": str(start), "out": str(end)})
    for name, value in (("a_track", "0"), ("b_track", "1"), ("mlt_service", service)):
        _property(element, name, value)
    return element


def _cross_fade(mix: ElementTree.Element) -> None:
    """From the first sound into the second, as long as the transition lasts."""
    _property(mix, "start", "-1")
    _property(mix, "accepts_blanks", "1")


def _mix_track(tractor: ElementTree.Element, index: int) -> ElementTree.Element:
    """Hear a track together with those below."""
    mix = ElementTree.SubElement(tractor, "transition")
    for name, value in {
        "a_track": "0",
        "b_track": str(index),
        "mlt_service": "mix",
        "always_active": "1",
        "accepts_blanks": "1",
        "sum": "1",
    }.items():
        _property(mix, name, value)
    return mix


def _property(parent: ElementTree.Element, name: str, value: str) -> None:
    ElementTree.SubElement(parent, "property", name=name).text = xml_text(value)


def _text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'
