"""A cut -> CMX 3600 edit decision lists, one per track, which nearly everything reads.

An event says which timecode of a reel plays from when to when. Media that carries no timecode counts
from 00:00:00:00. A dissolve is an event of its clip on the right, which then begins where the
dissolve does; before it stands an event of no length, of what it comes from. Sound goes with its picture, in
the same event: B is picture and one channel, AA/V picture and two, which is as many as there are.
An EDL knows no frame rate: tell the reader.

ASCII only, a line each. Disabled clips are left out: an EDL has no word for them. Takes, proxies,
sizes and metadata other than the prompt have no place.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from freeswim.errors import RequestError
from freeswim.timeline.cut import Clip, Cut, Dissolve, Marker, Media, Track
from freeswim.timeline.timecode import frames_per_day, is_drop_frame, source_start, timecode_of
from freeswim.timeline.words import plain_text

LONGEST_LINE = 80
LONGEST_DISSOLVE = 999  # frames: three digits

_REEL = re.compile(r"[A-Za-z0-9_]{1,8}")
_TAKEN = ("AX", "BL")  # "no reel" and "black" to those that read
_COLORS = {"PINK": "MAGENTA", "PURPLE": "MAGENTA", "ORANGE": "YELLOW"}
_KNOWN_COLORS = ("RED", "GREEN", "BLUE", "CYAN", "MAGENTA", "YELLOW", "BLACK", "WHITE")


def edl_texts(cut: Cut) -> tuple[str, ...]:
    """The cut as one EDL per track; the same cut gives the same texts.

    The cut's own markers are in the first that has an event, at one of them: readers refuse notes
    before. A reel is that of its media where it is 1 to 8 letters
    and digits and of no other file, else FS and six digits that no other has.

    Raises:
        RequestError: the cut cannot be played, media has another rate than the cut, a dissolve has
            more frames than three digits hold, or the timecode passes midnight.
    """
    cut.check()
    cut.check_one_rate()
    if cut.start_frame + cut.num_frames > frames_per_day(cut.rate):
        raise RequestError(
            "The timeline's timecode passes 24 hours.", hint="Begin it at 01:00:00:00."
        )
    reels = _reels(cut)
    tracks = [list(_events(cut, track.playing(), reels)) for track in cut.tracks]
    _write_markers(cut, next(filter(None, tracks), []))
    return tuple(_text(cut, events) for events in tracks)


def ascii_text(text: str) -> str:
    """One line of ASCII: without accents, and with a question mark for what has no letter there."""
    plain = "".join(
        one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one)
    )
    printable = (one if one.isspace() or " " <= one <= "~" else "?" for one in plain)
    return " ".join("".join(printable).split())


@dataclass
class _Event:
    """Lines of one number, and what is said of them."""

    at: int  # frame of the cut
    lines: list[str]  # without the number
    notes: list[str]


def _write_markers(cut: Cut, events: list[_Event]) -> None:
    for marker in cut.markers if events else ():
        begun = [event for event in events if event.at <= marker.frame] or events[:1]
        begun[-1].notes.append(_located(cut, marker, marker.frame))


def _text(cut: Cut, events: list[_Event]) -> str:
    drop = "DROP FRAME" if is_drop_frame(cut.rate) else "NON-DROP FRAME"
    lines = [f"TITLE: {ascii_text(cut.name)[:70]}", f"FCM: {drop}", ""]
    for number, event in enumerate(events, start=1):
        lines += [f"{number:03}  {line}" for line in event.lines]
        lines += event.notes
    return "\n".join(lines) + "\n"


def _events(cut: Cut, track: Track, reels: dict[Path, str]) -> Iterator[_Event]:
    """Of a track as it plays."""
    located: list[str] = []  # markers of a clip that has no event: its dissolve shows all of it
    for index, (at, item) in enumerate(track.placed()):
        if not isinstance(item, Clip):
            continue
        into, out_of = track.dissolves_at(index)
        head, tail = (into.before_cut if into else 0), (out_of.before_cut if out_of else 0)
        located += [_located(cut, marker, at + marker.frame) for marker in item.markers]
        num_frames = head + item.num_frames - tail
        if not num_frames:
            continue
        kind, lines, notes = "C", list[str](), _notes(item)
        if into:
            before = track.items[index - 2]
            assert isinstance(before, Clip)
            channels = _channels(item.media)
            kind = f"D    {into.num_frames:03}"
            lines = [_dissolved(cut, before, into, at, channels, reels)]
            notes = [f"* FROM CLIP NAME: {ascii_text(before.name)}", *_renamed(notes)]
        spans = item.start - head, at - head, num_frames
        lines.append(_line(cut, reels, _channels(item.media), kind, item.media, *spans))
        yield _Event(at - head, lines, notes + located)
        located = []


def _dissolved(
    cut: Cut, clip: Clip, dissolve: Dissolve, at: int, channels: str, reels: dict[Path, str]
) -> str:
    """Of the clip that a dissolve comes from: an event of no length where it begins."""
    if dissolve.num_frames > LONGEST_DISSOLVE:
        raise RequestError(
            f"A dissolve has {dissolve.num_frames} frames; an EDL holds {LONGEST_DISSOLVE}.",
            hint="Shorten it.",
        )
    source = clip.start + clip.num_frames - dissolve.before_cut
    return _line(cut, reels, channels, "C", clip.media, source, at - dissolve.before_cut, 0)


def _channels(media: Media) -> str:
    """What is edited in: V, picture; B, one channel of sound as well; AA/V, two."""
    return ("V", "B")[media.num_channels] if media.num_channels < 2 else "AA/V"


def _line(
    cut: Cut,
    reels: dict[Path, str],
    channels: str,
    kind: str,
    media: Media,
    source: int,
    at: int,
    num_frames: int,
) -> str:
    first, record = source_start(media) + source, cut.start_frame + at
    frames = first, first + num_frames, record, record + num_frames
    times = " ".join(timecode_of(frame, cut.rate) for frame in frames)
    return f"{reels[media.path.resolve()]:<8} {channels:<5} {kind:<8} {times}"


def _notes(clip: Clip) -> list[str]:
    notes = [
        f"* FROM CLIP NAME: {ascii_text(clip.name)}",
        f"* SOURCE FILE: {ascii_text(clip.media.name)}",
    ]
    prompt = plain_text(clip.metadata.get("prompt", clip.media.metadata.get("prompt", "")))
    lead = "* COMMENT: "
    wrapped = textwrap.wrap(ascii_text(prompt), LONGEST_LINE - len(lead))
    return notes + [lead + line for line in wrapped]


def _renamed(notes: list[str]) -> list[str]:
    """The notes of the clip that a dissolve goes to."""
    return [notes[0].replace("FROM", "TO", 1), *notes[1:]]


def _located(cut: Cut, marker: Marker, frame: int) -> str:
    color = _COLORS.get(marker.color, marker.color)
    color = color if color in _KNOWN_COLORS else "CYAN"
    return (
        f"* LOC: {timecode_of(cut.start_frame + frame, cut.rate)} {color:<7} "
        f"{ascii_text(marker.text)}"
    ).rstrip()


def _reels(cut: Cut) -> dict[Path, str]:
    """Of every media file that plays, a reel of its own; its own where it can be."""
    media = {clip.media.path.resolve(): clip.media for clip in cut.clips()}
    reels: dict[Path, str] = {}
    for place, one in media.items():
        reel = one.reel.upper()
        is_free = reel not in _TAKEN and reel not in reels.values()
        if is_free and _REEL.fullmatch(reel):
            reels[place] = reel
    number = 0
    for place in media:
        while place not in reels:
            number += 1
            made = f"FS{number:06}"
            if made not in reels.values():
                reels[place] = made
    return reels
