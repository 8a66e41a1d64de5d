"""A timeline made elsewhere -> which frames of which files it uses.

    read_timeline(path)          in this process: for files of our own making
    read_untrusted(path)         in a process that is thrown away, with limits: for all others

OTIO, OTIOZ, FCP7 XML, FCPXML and EDL, as editors write them, and the MLT and Kdenlive projects that
FreeSwim writes. Nothing that a timeline names is opened.

What is asked for are pictures or their sound, never both: tracks of sound use the same frames again,
and music has none.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import opentimelineio as otio
from pydantic import BaseModel, ConfigDict, ValidationError

from freeswim.errors import FreeswimError, MediaError, RequestError
from freeswim.timeline.cut import RATES, Clip, Cut
from freeswim.timeline.timecode import frames_of

LARGEST = 64 * 2**20  # bytes of a timeline; its media is elsewhere
MOST_MEMORY = 2**30  # bytes that reading one may take
MOST_SECONDS = 20
MOST_ENTRIES = 2000  # of an .otioz
FASTEST = 1000  # frames a second; what counts faster counts samples
LARGEST_ANSWER = 64 * 2**20

Kind: TypeAlias = Literal["pictures", "sound"]
KINDS: tuple[Kind, ...] = ("pictures", "sound")


class Used(BaseModel):
    """Frames of a file that a timeline plays. All numbers are frames of the timeline's rate."""

    model_config = ConfigDict(frozen=True)

    track: int  # of its kind, from 1: V1, or A1
    start: int  # on the timeline, from its first frame
    num_frames: int
    file: str  # the file's name, without its folder
    source_start: int  # from the media's first frame, or its timecode where that is all there is
    has_timecode: bool = False  # whether source_start is timecode
    is_enabled: bool = True
    name: str = ""
    job_id: str = ""  # of FreeSwim's own metadata, where it survived


class Read(BaseModel):
    """A timeline as far as it is looked at."""

    model_config = ConfigDict(frozen=True)

    name: str
    rate: Fraction
    used: tuple[Used, ...]
    start_frame: int = 0  # timecode of its first frame
    notes: tuple[str, ...] = ()  # what was passed over


def cut_list(cut: Cut) -> list[Used]:
    """What reading a timeline of `cut` should find: its pictures, clip by clip."""
    return [
        Used(
            track=number,
            start=start,
            num_frames=item.num_frames,
            file=item.media.name,
            source_start=item.start,
            is_enabled=item.is_enabled,
            name=item.name,
            job_id=str(item.metadata.get("job_id", "")),
        )
        for number, track in enumerate(cut.tracks, 1)
        for start, item in track.placed()
        if isinstance(item, Clip)
    ]


def read_untrusted(path: Path, rate: Fraction | None = None) -> Read:
    """Read the pictures of a timeline of unknown origin: it costs seconds and one process at most.

    Args:
        path: .otio, .otioz, .xml, .fcpxml or .edl.
        rate: of an EDL, which does not say it.

    Raises:
        MediaError: it cannot be read, says why.
        RequestError: an EDL without a rate.
    """
    _check_file(path)
    command = [sys.executable, "-I", "-m", "freeswim.timeline.reading", str(path.absolute())]
    command += [] if rate is None else [str(rate)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=MOST_SECONDS, stdin=subprocess.DEVNULL
        )
        if done.returncode == 0:
            return Read.model_validate_json(done.stdout[:LARGEST_ANSWER])
    except (subprocess.TimeoutExpired, ValidationError) as error:
        raise _unreadable(path, "it is too much for one timeline") from error
    if done.returncode == RequestError.exit_status:
        message, hint = done.stderr.decode(errors="replace").strip().splitlines()[-2:]
        raise RequestError(message, hint=hint)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    is_ours = done.returncode == MediaError.exit_status and said
    raise _unreadable(path, said[-1] if is_ours else "it is damaged or too large")


def read_timeline(path: Path, rate: Fraction | None = None, kind: Kind = "pictures") -> Read:
    """As `read_untrusted`, in this process, and of the sound if that is asked for.

    An `.mlt` says nothing of sound: a clip has its own, on the tracks of pictures.
    """
    _check_file(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise MediaError(
            f"{path.name} is no timeline that is read here.",
            hint=f"Export the cut as one of {', '.join(sorted(_READERS))}.",
        )
    try:
        is_edl = path.suffix.lower() == ".edl"
        return _read_edl(path, kind, rate) if is_edl else reader(path, kind)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise _unreadable(path, "it says things that no editor writes") from error


def _check_file(path: Path) -> None:
    try:
        if not path.is_file():
            raise MediaError(f"{path.name} is not a file.", hint="Name a timeline.")
        size = path.stat().st_size
    except OSError as error:
        raise MediaError(f"{path.name} cannot be read: {error.strerror}.") from error
    if size > LARGEST and path.suffix.lower() != ".otioz":
        raise MediaError(
            f"{path.name} is too large for a timeline.", hint="Export the cut again, without media."
        )


def _unreadable(path: Path, why: str) -> MediaError:
    return MediaError(f"{path.name} cannot be read: {why}.", hint="Export the cut again.")


# --------------------------------------------------------------------------------------- OTIO


def _read_otio(path: Path, kind: Kind) -> Read:
    return _of_otio(path.read_text("utf-8", errors="replace"), path, kind)


def _read_otioz(path: Path, kind: Kind) -> Read:
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = bundle.infolist()
            content = bundle.getinfo("content.otio")
            if len(entries) > MOST_ENTRIES or content.file_size > LARGEST:
                raise _unreadable(path, "it is too large for a timeline")
            text = bundle.read(content).decode(errors="replace")
    except (zipfile.BadZipFile, KeyError, NotImplementedError, OSError) as error:
        raise _unreadable(path, "it is no whole .otioz") from error
    return _of_otio(text, path, kind)


def _of_otio(text: str, path: Path, kind: Kind) -> Read:
    try:
        timeline = otio.adapters.read_from_string(text, "otio_json")
    except Exception as error:  # of C++, without a common base
        raise _unreadable(path, "it is no OpenTimelineIO") from error
    if not isinstance(timeline, otio.schema.Timeline):
        raise _unreadable(path, "it holds no timeline")
    rate = _rate_of_otio(timeline)
    used: list[Used] = []
    notes: list[str] = []
    tracks = timeline.video_tracks() if kind == "pictures" else timeline.audio_tracks()
    for number, track in enumerate(tracks, 1):
        for item in track:
            if isinstance(item, otio.schema.Clip):
                used.append(_used_in_otio(item, track, number, rate))
            elif isinstance(item, otio.schema.Stack | otio.schema.Track):
                notes.append(f"{item.name or 'A nested sequence'} is passed over.")
    began = timeline.global_start_time
    return Read(
        name=timeline.name,
        rate=rate,
        used=tuple(used),
        start_frame=0 if began is None else round(began.value * float(rate) / began.rate),
        notes=tuple(notes),
    )


def _rate_of_otio(timeline: otio.schema.Timeline) -> Fraction:
    if timeline.global_start_time is not None:
        return exact_rate(timeline.global_start_time.rate)
    for track in timeline.video_tracks():  # sound may count samples
        for clip in track.find_clips():
            return exact_rate(clip.trimmed_range().duration.rate)
    return RATES[1]


def _used_in_otio(
    clip: otio.schema.Clip, track: otio.schema.Track, number: int, rate: Fraction
) -> Used:
    def frames(time: otio.opentime.RationalTime) -> int:
        # Sound may be in samples.
        own = exact_rate(time.rate) if time.rate < FASTEST else Fraction(time.rate)
        return round(Fraction(time.value) / own * rate)

    placed = track.trimmed_range_of_child(clip) or clip.trimmed_range()
    shown = clip.trimmed_range()
    reference = clip.media_reference
    available = reference.available_range if reference is not None else None
    start = frames(shown.start_time)
    if available is not None:
        start -= frames(available.start_time)
    url = getattr(reference, "target_url", "") or ""
    said = clip.metadata.get("freeswim")
    job_id = str(said.get("job_id", "")) if said is not None and hasattr(said, "get") else ""
    return Used(
        track=number,
        start=frames(placed.start_time),
        num_frames=frames(shown.duration),
        file=file_of(url) or clip.name,
        source_start=start,
        is_enabled=clip.enabled,
        name=clip.name,
        job_id=job_id,
    )


# ---------------------------------------------------------------------------------------- XML


def _parsed(path: Path) -> ElementTree.Element:
    text = path.read_bytes()
    if b"<!ENTITY" in text:
        raise _unreadable(path, "it defines entities, which no timeline needs")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise _unreadable(path, "it is no whole XML") from error


def _read_xml(path: Path, kind: Kind) -> Read:
    root = _parsed(path)
    if root.tag == "xmeml":
        return _of_fcp7(root, path, kind)
    if root.tag == "fcpxml":
        return _of_fcpxml(root, path, kind)
    raise _unreadable(path, "it is neither FCP7 XML nor FCPXML")


def _of_fcp7(root: ElementTree.Element, path: Path, kind: Kind) -> Read:
    sequence = root.find(".//sequence")
    if sequence is None:
        raise _unreadable(path, "it holds no sequence")
    rate = _rate_of_fcp7(sequence.find("rate"))
    files = {one.get("id"): one for one in root.iter("file") if one.find("pathurl") is not None}
    used: list[Used] = []
    for number, track in _tracks_of_fcp7(sequence, kind):
        for start, end, item in _placed_in_fcp7(track):
            file = item.find("file")
            known = files.get(file.get("id")) if file is not None else None
            url = "" if known is None else known.findtext("pathurl", "")
            media_rate = _rate_of_fcp7(item.find("rate")) if item.find("rate") is not None else rate
            source = Fraction(int(item.findtext("in", "0"))) / media_rate * rate
            used.append(
                Used(
                    track=number,
                    start=start,
                    num_frames=end - start,
                    file=file_of(url) or item.findtext("name", ""),
                    source_start=round(source),
                    is_enabled=item.findtext("enabled", "TRUE").upper() == "TRUE",
                    name=item.findtext("name", ""),
                )
            )
    if kind == "sound":
        used = list(dict.fromkeys(used))  # once, however many channels it has
    began = sequence.findtext("timecode/frame", "0")
    return Read(
        name=sequence.findtext("name", path.stem),
        rate=rate,
        used=tuple(used),
        start_frame=int(began),
    )


def _tracks_of_fcp7(
    sequence: ElementTree.Element, kind: Kind
) -> Iterator[tuple[int, ElementTree.Element]]:
    """Tracks and their numbers; channels of one sound share theirs, where Premiere's words say so."""
    number = 0
    element = "video" if kind == "pictures" else "audio"
    for track in sequence.findall(f"media/{element}/track"):
        number += track.get("currentExplodedTrackIndex", "0") == "0"
        yield number, track


def _placed_in_fcp7(
    track: ElementTree.Element,
) -> Iterator[tuple[int, int, ElementTree.Element]]:
    """Clips with their first and last frame, as if their dissolves were cuts.

    A clip at a dissolve has -1 for its end there; its length follows from `in` and `out`, and the
    cut lies where the transition says, else in its middle.
    """
    items = [item for item in track if item.tag in ("clipitem", "transitionitem")]
    for index, item in enumerate(items):
        if item.tag != "clipitem":
            continue
        start, end = int(item.findtext("start", "-1")), int(item.findtext("end", "-1"))
        if start < 0 and index:
            start = _cut_of_fcp7(items[index - 1])
            into = start - int(items[index - 1].findtext("start", "0"))
            inside = item.find("in")
            if inside is not None and into > 0:
                inside.text = str(int(inside.text or "0") + into)
        if end < 0 and index + 1 < len(items):
            end = _cut_of_fcp7(items[index + 1])
        yield start, end, item


def _cut_of_fcp7(transition: ElementTree.Element) -> int:
    start, end = (int(transition.findtext(name, "0")) for name in ("start", "end"))
    alignment = transition.findtext("alignment", "center")
    places = {"start": start, "start-black": start, "end": end, "end-black": end}
    return places.get(alignment, (start + end) // 2)


def _rate_of_fcp7(rate: ElementTree.Element | None) -> Fraction:
    if rate is None:
        return RATES[1]
    timebase = Fraction(int(rate.findtext("timebase", "24")))
    is_ntsc = rate.findtext("ntsc", "FALSE").upper() == "TRUE"
    return timebase * 1000 / 1001 if is_ntsc else timebase


def _of_fcpxml(root: ElementTree.Element, path: Path, kind: Kind) -> Read:
    sequence = root.find(".//sequence")
    if sequence is None:
        raise _unreadable(path, "it holds no sequence")
    formats = {one.get("id"): one for one in root.iter("format")}
    frame = _seconds(formats[sequence.get("format")].get("frameDuration", "1/24s"))
    rate = 1 / frame
    assets = {one.get("id"): one for one in root.iter("asset")}
    used: list[Used] = []
    for track, start, item in _placed_in_fcpxml(sequence, rate):
        asset = assets.get(item.get("ref"))
        if not _has_in_fcpxml(item, asset, kind):
            continue
        media = None if asset is None else asset.find("media-rep")
        url = "" if asset is None else (asset.get("src") or "")
        url = url if media is None else media.get("src", url)
        began = Fraction(0) if asset is None else _seconds(asset.get("start", "0s"))
        source = _seconds(item.get("start", "0s")) - began
        used.append(
            Used(
                track=track,
                start=start,
                num_frames=round(_seconds(item.get("duration", "0s")) * rate),
                file=file_of(url) or item.get("name", ""),
                source_start=round(source * rate),
                is_enabled=item.get("enabled", "1") == "1",
                name=item.get("name", ""),
            )
        )
    if kind == "sound":  # tracks have the numbers of their pictures'
        numbers = {track: number for number, track in enumerate(sorted({u.track for u in used}), 1)}
        used = [one.model_copy(update={"track": numbers[one.track]}) for one in used]
    return Read(
        name=path.stem if (project := root.find(".//project")) is None else project.get("name", ""),
        rate=rate,
        used=tuple(sorted(used, key=lambda one: (one.track, one.start))),
        start_frame=round(_seconds(sequence.get("tcStart", "0s")) * rate),
    )


def _has_in_fcpxml(
    item: ElementTree.Element, asset: ElementTree.Element | None, kind: Kind
) -> bool:
    """Whether a clip is there to be seen, or to be heard."""
    source = "video" if kind == "pictures" else "audio"
    if item.get("srcEnable", "all") not in ("all", source):
        return False
    has = {} if asset is None else asset.attrib
    is_heard, is_seen = (has.get(name) == "1" for name in ("hasAudio", "hasVideo"))
    return is_heard if kind == "sound" else is_seen or not is_heard  # some say nothing


def _placed_in_fcpxml(
    sequence: ElementTree.Element, rate: Fraction
) -> Iterator[tuple[int, int, ElementTree.Element]]:
    """Clips with their track (from the lane) and first frame; of an audition, its pick."""
    began = _seconds(sequence.get("tcStart", "0s"))

    def clips(item: ElementTree.Element) -> Iterable[ElementTree.Element]:
        return list(item)[:1] if item.tag == "audition" else [item]

    def place(
        parent: ElementTree.Element, shift: Fraction, storyline: str = "0"
    ) -> Iterator[tuple[int, int, ElementTree.Element]]:
        for child in parent:
            if child.tag == "spine":  # a storyline of its own, connected to a clip
                offset = _seconds(child.get("offset", "0s")) + shift
                yield from place(child, offset, child.get("lane", "0"))
            if child.tag not in ("asset-clip", "clip", "video", "audition", "gap"):
                continue
            for clip in clips(child):
                offset = _seconds(clip.get("offset", child.get("offset", "0s"))) + shift
                if clip.tag != "gap":
                    lane = int(clip.get("lane", child.get("lane", storyline)))
                    yield lane + 1, round((offset - began) * rate), clip
                yield from place(clip, offset - _seconds(clip.get("start", "0s")))

    spine = sequence.find("spine")
    if spine is not None:
        yield from place(spine, Fraction(0))


def _seconds(text: str) -> Fraction:
    """Of a time as FCPXML writes it: 1001/24000s, 5s."""
    return Fraction(text.removesuffix("s") or "0")


# ---------------------------------------------------------------------------------------- MLT


def _read_mlt(path: Path, kind: Kind) -> Read:
    """An MLT or Kdenlive project, as FreeSwim writes it; dissolves are passed over."""
    root = _parsed(path)
    profile = root.find("profile")
    if root.tag != "mlt" or profile is None:
        raise _unreadable(path, "it is no MLT project")
    rate = Fraction(
        int(profile.get("frame_rate_num", "24")), int(profile.get("frame_rate_den", "1"))
    )
    known = {one.get("id", ""): one for one in root if one.get("id")}
    found = max((_playlists(one, known) for one in root.iter("tractor")), key=len, default=[])
    tracks = [rows for of, rows in found if of == kind]
    if kind == "sound":
        tracks.reverse()  # A1 is the uppermost
    used = [
        Used(
            track=number,
            start=start,
            num_frames=num_frames,
            file=file_of(_property(known[producer], "resource")),
            source_start=first,
        )
        for number, rows in enumerate(tracks, 1)
        for start, first, num_frames, producer in sorted(
            entry for row in rows for entry in _entries(row)
        )
        if known[producer].tag != "tractor"
    ]
    return Read(name=root.get("title", path.stem), rate=rate, used=tuple(used))


def _playlists(
    tractor: ElementTree.Element, known: dict[str, ElementTree.Element]
) -> list[tuple[Kind, list[ElementTree.Element]]]:
    """The playlists with clips of each track; a track of Kdenlive's is a tractor of two."""
    tracks: list[tuple[Kind, list[ElementTree.Element]]] = []
    for track in tractor.findall("track"):
        leads_to = known[track.get("producer", "")]
        inner = [known[one.get("producer", "")] for one in leads_to.findall("track")]
        rows = [one for one in (leads_to, *inner) if one.tag == "playlist" and _has_entries(one)]
        if rows:
            is_sound = _property(leads_to, "kdenlive:audio_track") == "1"
            tracks.append(("sound" if is_sound else "pictures", rows))
    return tracks


def _has_entries(playlist: ElementTree.Element) -> bool:
    return playlist.find("entry") is not None


def _entries(playlist: ElementTree.Element) -> Iterator[tuple[int, int, int, str]]:
    """(start, first frame of the media, frames, producer) of each clip."""
    at = 0
    for item in playlist:
        if item.tag == "blank":
            at += int(item.get("length", "0"))
        elif item.tag == "entry":
            first, last = int(item.get("in", "0")), int(item.get("out", "0"))
            yield at, first, last + 1 - first, item.get("producer", "")
            at += last + 1 - first


def _property(element: ElementTree.Element, name: str) -> str:
    texts = (one.text for one in element.findall("property") if one.get("name") == name)
    return next(texts, "") or ""


# ---------------------------------------------------------------------------------------- EDL

_EVENT = re.compile(
    r"^\s*(?P<number>\d+)\s+(?P<reel>\S+)\s+(?P<channel>\S+)\s+(?P<kind>C|D|W\d+)\s+(?:\d+\s+)?"
    r"(?P<times>(?:\d\d[:;.,]){3}\d\d(?:\s+(?:\d\d[:;.,]){3}\d\d){3})"
)
_NAME = re.compile(r"^\*\s*(?P<what>FROM CLIP NAME|TO CLIP NAME|SOURCE FILE)\s*:\s*(?P<name>.+)$")


def _read_edl(path: Path, kind: Kind, rate: Fraction | None = None) -> Read:
    if rate is None:
        raise RequestError(
            f"{path.name} is an EDL, which does not say its frame rate.",
            hint="Give it with --rate.",
        )
    name, events = path.stem, list[tuple[str, tuple[int, int, int, int], dict[str, str]]]()
    start: int | None = None
    is_passed_over = False  # the event that notes are of
    for line in path.read_text("utf-8", errors="replace").splitlines():
        if line.startswith("TITLE:"):
            name = line.partition(":")[2].strip()
        elif event := _EVENT.match(line):
            first, last, into, out = (frames_of(time, rate) for time in event["times"].split())
            start = into if start is None else min(start, into)
            is_passed_over = not _is_in_edl(event["channel"].upper(), kind)
            if not is_passed_over:
                events.append((event["kind"], (first, last, into, out), {}))
        elif events and not is_passed_over and (said := _NAME.match(line.strip())):
            events[-1][2][said["what"]] = said["name"].strip()
    start = start or 0
    used = [
        Used(
            track=1,
            start=into - start,
            num_frames=out - into,
            file=file_of(_name_in_edl(kind, names)),
            source_start=first,
            has_timecode=True,
            name=_name_in_edl(kind, names),
        )
        for kind, (first, _, into, out), names in events
        if out > into
    ]
    return Read(name=name, rate=rate, used=tuple(used), start_frame=start)


def _is_in_edl(channel: str, kind: Kind) -> bool:
    """Whether an event is of pictures, or of sound: V, V2, A, AA, B (both), AA/V, A2/V."""
    if kind == "sound":
        return channel.startswith(("A", "B"))
    return channel.startswith(("V", "B")) or channel.endswith("/V")


def _name_in_edl(kind: str, names: dict[str, str]) -> str:
    if "SOURCE FILE" in names:
        return names["SOURCE FILE"]
    into = names.get("TO CLIP NAME") if kind != "C" else None
    return into or names.get("FROM CLIP NAME", "")


# ------------------------------------------------------------------------------ small things


def exact_rate(rate: float) -> Fraction:
    """23.976, 23.98 and 24000/1001 all mean 24000/1001.

    Raises:
        MediaError: no rate of pictures.
    """
    if not math.isfinite(rate) or not 0 < rate < FASTEST:
        raise MediaError(f"A timeline at {rate} frames per second cannot be read.")
    close = min(RATES, key=lambda known: abs(float(known) - rate))
    return close if abs(float(close) - rate) < 0.005 else Fraction(rate).limit_denominator(1001)


def file_of(url: str) -> str:
    """The name of the file that a URL or path of any system ends in."""
    path = urlsplit(url).path if re.match(r"^[A-Za-z][A-Za-z0-9+.-]+://", url) else url
    plain = unquote(path) if path != url or "%" in path else path
    return PureWindowsPath(plain).name  # knows both kinds of slashes


_READERS: dict[str, Callable[[Path, Kind], Read]] = {
    ".otio": _read_otio,
    ".otioz": _read_otioz,
    ".xml": _read_xml,
    ".fcpxml": _read_xml,
    ".edl": _read_edl,
    ".mlt": _read_mlt,
    ".kdenlive": _read_mlt,
}


def _limit_ourselves() -> None:
    """Where the system can: a timeline that asks for more ends this process, and nothing else."""
    if os.name != "posix":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """`python -m freeswim.timeline.reading FILE [RATE]`: print what was read as JSON."""
    _limit_ourselves()
    path, *rate = sys.argv[1:]
    try:
        read = read_timeline(Path(path), Fraction(rate[0]) if rate else None)
    except FreeswimError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return error.exit_status
    sys.stdout.write(read.model_dump_json())
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
