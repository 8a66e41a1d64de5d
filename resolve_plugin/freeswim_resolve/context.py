"""What the editor is looking at, in Resolve's own words: the studio reads rates and timecodes.

Bounded, because every call is answered by Resolve's main thread, about a millisecond each
(resolve.md 2.2): a track's items are found by halving, never listed one by one.
"""

import json
from typing import Any, Dict, List, Optional, Tuple

from .border import Border, Thing, text, whole

MOST_MARKERS = 500
MOST_SELECTED = 100
MOST_ITEMS = 500  # of one answer
MOST_TRACKS = 100
MOST_BYTES = 300 * 1024  # of one list, of the megabyte that the studio takes
LONGEST_NOTE = 8000  # characters: a prompt

Json = Dict[str, Any]


def snapshot(border: Border) -> Json:
    """Project, timeline, playhead, selection, marks, tracks and markers; null for what is not open."""
    project = border.project()
    timeline = project and project.get("Timeline", "GetCurrentTimeline")
    return {
        "page": text(border.root.ask("GetCurrentPage"), 50) or None,
        "project": project
        and {"id": project.id, "name": project.name, "rate": setting(project, "timelineFrameRate")},
        "timeline": timeline and _timeline(timeline),
    }


def brief(border: Border) -> Json:
    """Where the editor is, in as few calls as can be."""
    project = border.project()
    timeline = project and project.get("Timeline", "GetCurrentTimeline")
    return {
        "page": text(border.root.ask("GetCurrentPage"), 50) or None,
        "project": project.id if project else "",
        "timeline": timeline.id if timeline else "",
    }


def _timeline(timeline: Thing) -> Json:
    current = timeline.get("TimelineItem", "GetCurrentVideoItem")
    markers, left_out = markers_of(timeline)
    return {
        "id": timeline.id,
        "name": timeline.name,
        "rate": setting(timeline, "timelineFrameRate"),  # never the project's (resolve.md 2.3)
        "drop_frame": setting(timeline, "timelineDropFrameTimecode"),
        "width": setting(timeline, "timelineResolutionWidth"),
        "height": setting(timeline, "timelineResolutionHeight"),
        "start_frame": whole(timeline.ask("GetStartFrame")),
        "end_frame": whole(timeline.ask("GetEndFrame")),
        "start_timecode": text(timeline.ask("GetStartTimecode"), 50) or None,
        "playhead": text(timeline.ask("GetCurrentTimecode"), 50) or None,
        "mark": _mark(timeline),
        "tracks": tracks_of(timeline),
        "current": item_facts(timeline, current) if current else None,
        "selection": _selection(timeline),
        "markers": markers,
        "markers_left_out": left_out,
    }


def setting(thing: Thing, name: str) -> str:
    """A setting as a string, as it was up to 21.0; from 21.1 on rates are numbers."""
    said = thing.ask("GetSetting", name)
    if said in (None, "", False) and thing.can("GetSettings"):
        settings = thing.ask("GetSettings")
        said = settings.get(name) if isinstance(settings, dict) else None
    if isinstance(said, bool):
        return "1" if said else "0"
    if isinstance(said, (int, float)):
        return f"{said:g}"
    return text(said, 100)


def tracks_of(timeline: Thing) -> List[Json]:
    """Video tracks from the lowest up."""
    count = whole(timeline.ask("GetTrackCount", "video")) or 0
    return [
        {
            "index": index,
            "name": text(timeline.ask("GetTrackName", "video", index), 200),
            "is_locked": timeline.ask("GetIsTrackLocked", "video", index) is True,
            "is_enabled": timeline.ask("GetIsTrackEnabled", "video", index) is not False,
        }
        for index in range(1, min(count, MOST_TRACKS) + 1)
    ]


def markers_of(timeline: Thing) -> Tuple[List[Json], int]:
    """Markers in their order, and how many were left out."""
    said = timeline.ask("GetMarkers")
    if not isinstance(said, dict):
        return [], 0
    found: List[Json] = []
    for key, marker in said.items():
        offset = whole(key)
        if offset is None or not isinstance(marker, dict):
            continue
        found.append(
            {
                "offset": offset,
                "duration": whole(marker.get("duration")),
                "color": text(marker.get("color"), 50),
                "name": text(marker.get("name"), LONGEST_NOTE),
                "note": text(marker.get("note"), LONGEST_NOTE),
                "custom_data": text(marker.get("customData"), 500),
            }
        )
    found.sort(key=lambda marker: marker["offset"])
    kept = fitting(found, MOST_MARKERS)
    return kept, len(found) - len(kept)


def fitting(found: List[Json], most: int) -> List[Json]:
    """The first of a list, as many as the studio takes."""
    size = 0
    for position, one in enumerate(found[:most]):
        size += len(json.dumps(one))
        if size > MOST_BYTES:
            return found[:position]
    return found[:most]


def _mark(timeline: Thing) -> Optional[Json]:
    """In and out of the timeline, from its first frame; either may be missing."""
    said = timeline.ask("GetMarkInOut")
    if not isinstance(said, dict):
        return None
    sides = said.get("video") or said.get("audio")
    if not isinstance(sides, dict):
        return None
    marked = {name: whole(sides.get(name)) for name in ("in", "out")}
    return marked if any(frame is not None for frame in marked.values()) else None


def _selection(timeline: Thing) -> Optional[List[Json]]:
    """Selected items; None: this Resolve does not say (before 21.0.4)."""
    if not timeline.can("GetSelectedClips"):
        return None
    selected = timeline.get_all("TimelineItem", "GetSelectedClips")
    return fitting([item_facts(timeline, one) for one in selected[:MOST_SELECTED]], MOST_SELECTED)


def item_facts(timeline: Thing, one: Thing, track: Optional[int] = None) -> Json:
    """What is on the timeline: absolute frames, its end not included."""
    kind, index = ("video", track) if track is not None else _track(timeline, one)
    media = one.get("MediaPoolItem", "GetMediaPoolItem")  # None for titles and generators
    return {
        "id": one.id,
        "name": one.name,
        "track_type": kind,
        "track": index,
        "start": whole(one.ask("GetStart")),
        "end": whole(one.ask("GetEnd")),
        "left_offset": whole(one.ask("GetLeftOffset")),
        "source_start": whole(one.ask("GetSourceStartFrame")),
        "media": media and media_facts(media),
    }


def media_facts(media: Thing) -> Json:
    """A clip of the media pool; its properties as Resolve words them, which may be translated."""
    named = (
        ("file", "File Path"),
        ("rate", "FPS"),
        ("frames", "Frames"),
        ("resolution", "Resolution"),
        ("start_timecode", "Start TC"),
    )
    facts: Json = {"id": media.id, "name": media.name}
    for name, words in named:
        said = media.ask("GetClipProperty", words)
        is_number = isinstance(said, (int, float)) and not isinstance(said, bool)
        facts[name] = f"{said:g}" if is_number else text(said, 4000)
    return facts


def _track(timeline: Thing, one: Thing) -> Tuple[str, Optional[int]]:
    """Which track it is on: ("video", 2). Before 19.0 it has to be looked for."""
    said = one.ask("GetTrackTypeAndIndex")
    if isinstance(said, list) and len(said) == 2:
        return text(said[0], 50), whole(said[1])
    start, own = whole(one.ask("GetStart")), one.id
    if start is None:
        return "", None
    for index in range(whole(timeline.ask("GetTrackCount", "video")) or 0, 0, -1):
        there = Track(timeline, index).between(start, start + 1)
        if any(other.id == own for other in there):
            return "video", index
    return "", None


class Track:
    """The items of a video track, in their order."""

    def __init__(self, timeline: Thing, index: int) -> None:
        self.items = timeline.get_all("TimelineItem", "GetItemListInTrack", "video", index)
        self._starts: Dict[int, int] = {}

    def between(self, start: int, end: int) -> List[Thing]:
        """Those that reach into [start, end)."""
        first = self._first_ending_after(start)
        found: List[Thing] = []
        for position in range(first, len(self.items)):
            if self._start(position) >= end:
                break
            found.append(self.items[position])
        return found

    def around(self, start: int, end: int) -> Tuple[Optional[Thing], Optional[Thing]]:
        """The last that ends by `start`, and the first that begins at `end` or after."""
        first = self._first_ending_after(start)
        after = first
        while after < len(self.items) and self._start(after) < end:
            after += 1
        return (
            self.items[first - 1] if first else None,
            self.items[after] if after < len(self.items) else None,
        )

    def _first_ending_after(self, frame: int) -> int:
        """Items of a track never overlap, so the last that begins by `frame` decides."""
        low, high = 0, len(self.items)
        while low < high:
            middle = (low + high) // 2
            if self._start(middle) <= frame:
                low = middle + 1
            else:
                high = middle
        if low and (whole(self.items[low - 1].ask("GetEnd")) or 0) > frame:
            return low - 1
        return low

    def _start(self, position: int) -> int:
        if position not in self._starts:
            self._starts[position] = whole(self.items[position].ask("GetStart")) or 0
        return self._starts[position]
