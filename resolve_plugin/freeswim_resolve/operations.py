"""The fixed set of things that the studio can have done inside Resolve, and nothing else.

Each takes named arguments, checked before anything is called, and answers with facts that were read
back, because what Resolve's calls answer is not to be relied on (resolve.md 2.1, 2.2). None saves
the project, and none deletes or changes what is not FreeSwim's: its marks are `freeswim:` in a
marker's custom data and `freeswim.` in a clip's metadata.
"""

import contextlib
import hashlib
import platform
import re
import struct
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import PLUGIN, PROTOCOL, context
from .border import OLDEST, Border, Thing, text, whole

OURS = "freeswim:"  # begins the custom data of our markers
ADOPTED = "freeswim-adopted:"  # of markers of the editor's that we follow
FIELD = "freeswim."  # begins the names of our metadata
MARKER_COLOURS = frozenset(
    [
        "Blue",
        "Cyan",
        "Green",
        "Yellow",
        "Red",
        "Pink",
        "Purple",
        "Fuchsia",
        "Rose",
        "Lavender",
        "Sky",
        "Mint",
        "Lemon",
        "Sand",
        "Cocoa",
        "Cream",
    ]
)
MOST_CLIPS = 20000  # of a media pool that are looked at for one
SEARCH_S = 5.0  # for looking at them
STILL_TRIES = 10  # of a still after the playhead was moved: the viewer lags (resolve.md 1.7)
STILL_REST_S = 0.1

_NUMBER = re.compile(r"%(?:0([1-9]))?d")  # in the name of a sequence

Json = Dict[str, Any]


class CannotDo(Exception):
    """It was not done, and why; the facts say what is so instead."""

    def __init__(self, code: str, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts = facts


def execute(border: Border, name: str, arguments: Any) -> Json:
    """Do one operation; returns its facts.

    Raises:
        CannotDo: it is none of ours, its arguments are wrong, or Resolve would not.
    """
    if name not in _OPERATIONS:
        raise CannotDo("unknown_operation", "This plugin has no such operation.")
    act, fields = _OPERATIONS[name]
    if not isinstance(arguments, dict) or set(arguments) - set(fields):
        raise CannotDo("bad_arguments", "The operation's arguments are not its own.")
    given: Json = {}
    for field, (check, default) in fields.items():
        value = arguments.get(field, default)
        if value is _NEEDED or not (check(value) or (field not in arguments and value is default)):
            raise CannotDo("bad_arguments", f"The argument {field} is wrong.")
        given[field] = value
    if name not in ("hello", "context", "bye") and border.version < OLDEST:
        raise CannotDo("too_old", "Resolve 18.5 is the oldest that can place clips.")
    return act(border, **given)


# ----------------------------------------------------------------------------------- what is there


def _hello(border: Border) -> Json:
    return {
        "protocol": PROTOCOL,
        "plugin": PLUGIN,
        "python": platform.python_version(),
        "product": border.product,
        "version": list(border.version),
        "version_words": border.version_words,
        "edition": "studio" if border.is_studio else "free",
    }


def _context(border: Border) -> Json:
    return context.snapshot(border)


def _readback(
    border: Border, project: str, timeline: str, track: int, start: int, end: int
) -> Json:
    """What is on a track within a range, and its neighbours: gaps lie between them."""
    there = _timeline(_project(border, project), timeline)
    _check_track(there, track)
    line = context.Track(there, track)
    before, after = line.around(start, end)
    inside = line.between(start, end)
    items = [context.item_facts(there, one, track) for one in inside[: context.MOST_ITEMS]]
    items = context.fitting(items, context.MOST_ITEMS)
    return {
        "items": items,
        "left_out": len(inside) - len(items),
        "before": before and context.item_facts(there, before, track),
        "after": after and context.item_facts(there, after, track),
    }


def _still(
    border: Border, project: str, timeline: str, path: str, timecode: str, move: bool
) -> Json:
    """The graded picture at a timecode as a new file. The playhead moves only if it may."""
    parent = _project(border, project)
    there = _current(parent, timeline)
    if Path(path).exists():
        raise CannotDo("exists", "A file is there already.")
    playhead = text(there.ask("GetCurrentTimecode"), 50)
    if not playhead:
        raise CannotDo("no_playhead", "This page has no playhead.")
    if playhead == timecode:
        return _still_here(parent, path, playhead)
    if not move:
        raise CannotDo("playhead_moved", "The playhead is elsewhere.", playhead=playhead)
    # One of the frame before tells, where two pictures differ, that the viewer has caught up.
    old = _still_here(parent, path, playhead)["sha256"]
    _remove(path)
    try:
        if not there.ask("SetCurrentTimecode", timecode):
            raise CannotDo("no_such_timecode", "The playhead cannot be put there.")
        facts: Json = {}
        for _ in range(STILL_TRIES):
            _remove(path)
            facts = _still_here(parent, path, timecode)
            facts["is_fresh"] = facts["sha256"] != old
            if facts["is_fresh"]:
                break
            time.sleep(STILL_REST_S)
        return facts
    finally:
        there.ask("SetCurrentTimecode", playhead)


def _still_here(project: Thing, path: str, timecode: str) -> Json:
    project.ask("ExportCurrentFrameAsStill", path)
    try:
        content = Path(path).read_bytes()
    except OSError:
        raise CannotDo("no_still", "Resolve wrote no picture.") from None
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 33:
        raise CannotDo("no_still", "Resolve wrote no whole PNG.")
    width, height = struct.unpack(">II", content[16:24])
    return {
        "path": path,
        "timecode": timecode,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": width,
        "height": height,
        "is_fresh": True,
    }


def _remove(path: str) -> None:
    """Take away a still that this operation has just made under a name that was free."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


# --------------------------------------------------------------------------------- the media pool


def _ensure_bin(border: Border, project: str, bin: List[str]) -> Json:
    pool = _pool(_project(border, project))
    folder, is_new = _root(pool), False
    came_from = pool.get("Folder", "GetCurrentFolder")
    for name in bin:
        inner = _child(folder, name)
        if inner is None:
            pool.ask("AddSubFolder", folder.handle, name)
            inner, is_new = _child(folder, name), True
        if inner is None:
            raise CannotDo("no_bin", "Resolve made no such bin.")
        folder = inner
    _go_back(pool, came_from)
    return {"bin": folder.id, "is_new": is_new}


def _import(
    border: Border, project: str, bin: List[str], path: str, first: int, last: int, rate: str
) -> Json:
    """A media pool clip of a file, or of the numbered files of `path` with its %0Nd."""
    pool = _pool(_project(border, project))
    folder = _folder(pool, bin)
    is_sequence = last >= first >= 0
    for media in folder.get_all("MediaPoolItem", "GetClipList"):
        if not is_sequence and _same_file(media.ask("GetClipProperty", "File Path"), path):
            return dict(context.media_facts(media), is_new=False)
    if not all(Path(one).is_file() for one in _files(path, first, last)):
        raise CannotDo("no_file", "The file is not there.")
    before = {media.id for media in folder.get_all("MediaPoolItem", "GetClipList")}
    came_from = pool.get("Folder", "GetCurrentFolder")
    asked: Any = {"FilePath": path, "StartIndex": first, "EndIndex": last} if is_sequence else path
    try:
        # ImportMedia goes to the current folder only (resolve.md 1.3).
        if not pool.ask("SetCurrentFolder", folder.handle):
            raise CannotDo("no_bin", "Resolve does not go to the bin.")
        pool.ask("ImportMedia", [asked])
    finally:
        _go_back(pool, came_from)
    new = [one for one in folder.get_all("MediaPoolItem", "GetClipList") if one.id not in before]
    if len(new) != 1:
        raise CannotDo("not_imported", "Resolve took it for no media.", imported=len(new))
    if rate:  # sequences come in at the project's rate (resolve.md 2.3)
        new[0].ask("SetClipProperty", "FPS", rate)
    return dict(context.media_facts(new[0]), is_new=True)


def _files(path: str, first: int, last: int) -> List[str]:
    """The file, or the first and last of a sequence."""
    if last < first:
        return [path]
    number = _NUMBER.search(path)
    if number is None:
        raise CannotDo("bad_arguments", "A sequence is named with its number as %0Nd.")
    head, width, tail = path[: number.start()], int(number.group(1) or 1), path[number.end() :]
    return [head + str(index).zfill(width) + tail for index in (first, last)]


def _set_meta(
    border: Border, project: str, bin: List[str], media: str, values: Dict[str, str]
) -> Json:
    """Say on a clip where it comes from: third-party metadata, or Comments before 19.0.2."""
    clip = _media(_pool(_project(border, project)), bin, media)
    if clip.can("SetThirdPartyMetadata"):
        for name, value in values.items():
            clip.ask("SetThirdPartyMetadata", name, value)
        stored = {name: text(clip.ask("GetThirdPartyMetadata", name), 4000) for name in values}
        return {"where": "third_party", "stored": stored}
    line = " ".join(name + "=" + value for name, value in sorted(values.items()))
    said = _comments(clip)
    if said and not said.startswith(FIELD):
        raise CannotDo("comments_taken", "The clip's comments are the editor's.")
    clip.ask("SetMetadata", "Comments", line)
    return {"where": "comments", "stored": {"Comments": _comments(clip)}}


def _replace_clip(border: Border, project: str, bin: List[str], media: str, path: str) -> Json:
    """Another file behind a clip that is ours: the final take behind its preview."""
    clip = _media(_pool(_project(border, project)), bin, media)
    if not _is_ours(clip):
        raise CannotDo("not_ours", "The clip was not made by FreeSwim.")
    if not Path(path).is_file():
        raise CannotDo("no_file", "The file is not there.")
    clip.ask("ReplaceClip", path)
    if not _same_file(clip.ask("GetClipProperty", "File Path"), path):
        raise CannotDo("not_replaced", "Resolve kept the clip as it was.")
    return context.media_facts(clip)


def _is_ours(clip: Thing) -> bool:
    third_party = clip.ask("GetThirdPartyMetadata")
    if isinstance(third_party, dict) and any(str(key).startswith(FIELD) for key in third_party):
        return True
    return _comments(clip).startswith(FIELD)


def _comments(clip: Thing) -> str:
    said = clip.ask("GetMetadata", "Comments")
    if isinstance(said, dict):
        said = said.get("Comments")
    return text(said, 4000)


# ----------------------------------------------------------------------------------- the timeline


def _add_track(border: Border, project: str, timeline: str, name: str) -> Json:
    there = _timeline(_project(border, project), timeline)
    before = whole(there.ask("GetTrackCount", "video")) or 0
    there.ask("AddTrack", "video")
    after = whole(there.ask("GetTrackCount", "video")) or 0
    if after != before + 1:
        raise CannotDo("no_track", "Resolve added no track.", tracks=after)
    there.ask("SetTrackName", "video", after, name)
    return {"track": after, "name": text(there.ask("GetTrackName", "video", after), 200)}


def _place(
    border: Border,
    project: str,
    timeline: str,
    bin: List[str],
    media: str,
    track: int,
    record_frame: int,
    start_frame: int,
    end_frame: int,
    switch: bool,
) -> Json:
    """Put frames [start_frame, end_frame) of a clip on a free part of a track."""
    parent = _project(border, project)
    there = _timeline(parent, timeline)
    pool = _pool(parent)
    clip = _media(pool, bin, media)
    came_from = parent.get("Timeline", "GetCurrentTimeline")
    if came_from is None or came_from.id != timeline:
        # What is appended goes to the current timeline only.
        if not switch:
            raise CannotDo("timeline_not_current", "The editor is on another timeline.")
        parent.ask("SetCurrentTimeline", there.handle)
        there = _current(parent, timeline)
    try:
        spot = _Spot(border, pool, there, clip, track, record_frame, end_frame - start_frame)
        return spot.fill(start_frame, end_frame)
    finally:
        if switch and came_from is not None and came_from.id != timeline:
            parent.ask("SetCurrentTimeline", came_from.handle)


class _Spot:
    """A free part of a track, that a clip goes to."""

    def __init__(
        self,
        border: Border,
        pool: Thing,
        timeline: Thing,
        clip: Thing,
        track: int,
        record_frame: int,
        length: int,
    ) -> None:
        self._border, self._pool, self._timeline, self._clip = border, pool, timeline, clip
        self._media = clip.id
        self._track, self._start, self._end = track, record_frame, record_frame + length

    def fill(self, start_frame: int, end_frame: int) -> Json:
        _check_track(self._timeline, self._track, must_be_open=True)
        first = whole(self._timeline.ask("GetStartFrame"))
        if first is None or self._start < first:
            # It would be outside of the timeline, and empties it (resolve.md 2.2).
            raise CannotDo("before_start", "The timeline begins later.", start_frame=first)
        there = self._there()
        if self._is_it(there):
            return self._facts(there[0], True, 0, True)
        if there:
            raise CannotDo(
                "occupied",
                "Something is on the track already.",
                items=[context.item_facts(self._timeline, one, self._track) for one in there[:10]],
            )
        # Whether the end is part of it differs between versions (resolve.md 2.2): it is said as
        # not being part, and where that gives one frame too many, or too few, once more. One frame
        # too many is dropped without a word where the next clip begins.
        was_placed = False
        for correction in (0, -1, 1):
            if end_frame + correction <= start_frame:
                continue
            is_certain = self._append(start_frame, end_frame + correction)
            placed = self._there()
            if self._is_it(placed):
                return self._facts(placed[0], False, correction, is_certain)
            if placed:
                was_placed = True
                self._take_back(placed)
        if was_placed:
            raise CannotDo("wrong_length", "Resolve places it with another length.")
        raise CannotDo("not_placed", "Resolve answered, and placed nothing.")

    def _append(self, start_frame: int, end_frame: int) -> bool:
        """Ask for it; returns whether Resolve says that it did.

        What is there afterwards decides. But what a call placed that says it failed is discarded
        when the project is saved (resolve.md 2.2), so the studio is told and looks again.
        """
        selected: List[Thing] = []
        must_select = self._border.version < (
            20,
            3,
            2,
        )  # fails without a selection (resolve.md 1.3)
        if must_select:
            selected = self._pool.get_all("MediaPoolItem", "GetSelectedClips")
            self._pool.ask("SetSelectedClip", self._clip.handle)
        placed = self._pool.get_all(
            "TimelineItem",
            "AppendToTimeline",
            [
                {
                    "mediaPoolItem": self._clip.handle,
                    "startFrame": start_frame,
                    "endFrame": end_frame,
                    "mediaType": 1,  # pictures alone
                    "trackIndex": self._track,
                    "recordFrame": self._start,
                }
            ],
        )
        if must_select and len(selected) == 1:
            self._pool.ask("SetSelectedClip", selected[0].handle)
        return any(one.id for one in placed)

    def _there(self) -> List[Thing]:
        return context.Track(self._timeline, self._track).between(self._start, self._end)

    def _is_it(self, items: List[Thing]) -> bool:
        return (
            len(items) == 1
            and self._is_of_clip(items[0])
            and whole(items[0].ask("GetStart")) == self._start
            and whole(items[0].ask("GetDuration")) == self._end - self._start
        )

    def _is_of_clip(self, one: Thing) -> bool:
        media = one.get("MediaPoolItem", "GetMediaPoolItem")
        return media is not None and bool(self._media) and media.id == self._media

    def _take_back(self, items: List[Thing]) -> None:
        """Remove what was placed a moment ago on a part that was free, and nothing else."""
        ours = [one for one in items if self._is_of_clip(one)]
        at_start = [one for one in ours if whole(one.ask("GetStart")) == self._start]
        if len(at_start) == 1:
            self._timeline.ask("DeleteClips", [at_start[0].handle], False)
        left = [one for one in self._there() if self._is_of_clip(one)]
        if left:  # not on the Edit page
            raise CannotDo(
                "wrong_length",
                "Resolve placed it with another length.",
                item=context.item_facts(self._timeline, left[0], self._track),
            )

    def _facts(self, one: Thing, was_there: bool, correction: int, is_certain: bool) -> Json:
        return {
            "item": context.item_facts(self._timeline, one, self._track),
            "was_there": was_there,
            "end_correction": correction,
            "is_certain": is_certain,
        }


def _add_take(
    border: Border,
    project: str,
    timeline: str,
    bin: List[str],
    track: int,
    start: int,
    item: str,
    media: str,
    start_frame: int,
    end_frame: int,
    select: bool,
) -> Json:
    """Another take in the take selector of an item; the one that is shown stays, if not `select`."""
    parent = _project(border, project)
    there = _timeline(parent, timeline)
    clip = _media(_pool(parent), bin, media)
    _check_track(there, track, must_be_open=True)
    found = [one for one in context.Track(there, track).between(start, start + 1) if one.id == item]
    if not found:
        raise CannotDo("no_item", "The clip is not there any more.")
    one = found[0]
    before = whole(one.ask("GetTakesCount")) or 0
    shown = whole(one.ask("GetSelectedTakeIndex")) or 1
    one.ask("AddTake", clip.handle, start_frame, end_frame)
    after = whole(one.ask("GetTakesCount")) or 0
    if after <= before:
        raise CannotDo("no_take", "Resolve added no take.", takes=after)
    one.ask("SelectTakeByIndex", after if select else shown)
    return {"takes": after, "shown": whole(one.ask("GetSelectedTakeIndex"))}


def _add_marker(
    border: Border,
    project: str,
    timeline: str,
    offset: int,
    color: str,
    name: str,
    note: str,
    duration: int,
    custom_data: str,
) -> Json:
    """A marker of ours; one of the editor's on that frame is followed instead, and looks the same."""
    there = _timeline(_project(border, project), timeline)
    known = _find(there, custom_data) or _find(there, ADOPTED + custom_data[len(OURS) :])
    if known is not None:
        return {"marker": known, "is_new": False}
    taken = [one for one in context.markers_of(there)[0] if one["offset"] == offset]
    if taken and taken[0]["custom_data"]:
        raise CannotDo("marker_taken", "The marker there is somebody's.", marker=taken[0])
    if taken:
        custom_data = ADOPTED + custom_data[len(OURS) :]
        there.ask("UpdateMarkerCustomData", offset, custom_data)
    else:
        there.ask("AddMarker", offset, color, name, note, duration, custom_data)
    marker = _find(there, custom_data)
    if marker is None:
        raise CannotDo("no_marker", "Resolve made no marker.")
    return {"marker": marker, "is_new": not taken}


def _find_marker(border: Border, project: str, timeline: str, custom_data: str) -> Json:
    """Where a marker of ours is by now: markers move when the editor ripples."""
    there = _timeline(_project(border, project), timeline)
    adopted = ADOPTED + custom_data[len(OURS) :]
    return {"marker": _find(there, custom_data) or _find(there, adopted)}


def _delete_marker(border: Border, project: str, timeline: str, custom_data: str) -> Json:
    """Remove a marker of ours; one of the editor's is only followed no longer."""
    there = _timeline(_project(border, project), timeline)
    if _find(there, custom_data):
        there.ask("DeleteMarkerByCustomData", custom_data)
    adopted = _find(there, ADOPTED + custom_data[len(OURS) :])
    if adopted is not None:
        there.ask("UpdateMarkerCustomData", adopted["offset"], "")
    return {"is_gone": _find_marker(border, project, timeline, custom_data)["marker"] is None}


def _find(timeline: Thing, custom_data: str) -> Optional[Json]:
    found = [one for one in context.markers_of(timeline)[0] if one["custom_data"] == custom_data]
    return found[0] if found else None


def _bye(border: Border) -> Json:
    return {}


# ------------------------------------------------------------------------------------------ finding


def _project(border: Border, project_id: str) -> Thing:
    """The open project, if it is the one that was meant."""
    project = border.project()
    if project is None or not project.id:
        raise CannotDo("no_project", "No project is open.")
    if project.id != project_id:
        raise CannotDo("other_project", "Another project is open.", project=project.id)
    return project


def _timeline(project: Thing, timeline_id: str) -> Thing:
    current = project.get("Timeline", "GetCurrentTimeline")
    if current is not None and current.id == timeline_id:
        return current
    for index in range(1, (whole(project.ask("GetTimelineCount")) or 0) + 1):
        timeline = project.get("Timeline", "GetTimelineByIndex", index)
        if timeline is not None and timeline.id == timeline_id:
            return timeline
    raise CannotDo("no_timeline", "The timeline is not there any more.")


def _current(project: Thing, timeline_id: str) -> Thing:
    current = project.get("Timeline", "GetCurrentTimeline")
    if current is None or current.id != timeline_id:
        raise CannotDo("timeline_not_current", "The editor is on another timeline.")
    return current


def _check_track(timeline: Thing, track: int, must_be_open: bool = False) -> None:
    count = whole(timeline.ask("GetTrackCount", "video")) or 0
    if not 1 <= track <= count:
        raise CannotDo("no_track", "There is no such track.", tracks=count)
    if must_be_open and timeline.ask("GetIsTrackLocked", "video", track) is True:
        raise CannotDo("track_locked", "The track is locked.")


def _pool(project: Thing) -> Thing:
    pool = project.get("MediaPool", "GetMediaPool")
    if pool is None:
        raise CannotDo("no_pool", "Resolve does not give its media pool.")
    return pool


def _root(pool: Thing) -> Thing:
    root = pool.get("Folder", "GetRootFolder")
    if root is None:
        raise CannotDo("no_pool", "Resolve does not give its media pool.")
    return root


def _child(folder: Thing, name: str) -> Optional[Thing]:
    inner = [one for one in folder.get_all("Folder", "GetSubFolderList") if one.name == name]
    return inner[0] if inner else None


def _folder(pool: Thing, bin: List[str]) -> Thing:
    folder = _root(pool)
    for name in bin:
        inner = _child(folder, name)
        if inner is None:
            raise CannotDo("no_bin", "The bin is not there.")
        folder = inner
    return folder


def _go_back(pool: Thing, folder: Optional[Thing]) -> None:
    """The bin that the editor was looking at."""
    if folder is not None:
        pool.ask("SetCurrentFolder", folder.handle)


def _media(pool: Thing, bin: List[str], media_id: str) -> Thing:
    """A clip by its id: in its bin, or where the editor has moved it to."""
    deadline = time.monotonic() + SEARCH_S
    root = _root(pool)
    folder: Optional[Thing] = root
    for name in bin:
        folder = folder and _child(folder, name)
    waiting, looked_at = ([folder] if folder else []) + [root], 0
    while waiting and looked_at < MOST_CLIPS and time.monotonic() < deadline:
        here = waiting.pop(0)
        for clip in here.get_all("MediaPoolItem", "GetClipList"):
            looked_at += 1
            if clip.id == media_id:
                return clip
        waiting += here.get_all("Folder", "GetSubFolderList")
    raise CannotDo("no_media", "The clip is not in the media pool any more.")


def _same_file(said: Any, path: str) -> bool:
    if not isinstance(said, str) or not said:
        return False
    try:
        return Path(said).resolve() == Path(path).resolve()
    except OSError:
        return said == path


# --------------------------------------------------------------------------------------- arguments

_NEEDED = object()
_Field = Tuple[Callable[[Any], bool], Any]


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 8000 and "\0" not in value


def _is_id(value: Any) -> bool:
    return _is_words(value) and 0 < len(value) <= 200


def _is_path(value: Any) -> bool:
    return _is_words(value) and Path(value).is_absolute() and ".." not in Path(value).parts


def _is_bin(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 10 and all(_is_id(name) for name in value)


def _is_frame(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_mark(value: Any) -> bool:
    return _is_id(value) and value.startswith(OURS) and len(value) > len(OURS)


def _is_values(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and 0 < len(value) <= 20
        and all(_is_id(name) and name.startswith(FIELD) for name in value)
        and all(_is_words(words) for words in value.values())
    )


_ID: _Field = (_is_id, _NEEDED)
_FRAME: _Field = (_is_frame, _NEEDED)
_PATH: _Field = (_is_path, _NEEDED)
_BIN: _Field = (_is_bin, _NEEDED)
_WORDS: _Field = (_is_words, "")
_NO: _Field = (_is_flag, False)
_MARK: _Field = (_is_mark, _NEEDED)
_ON_TIMELINE: Dict[str, _Field] = {"project": _ID, "timeline": _ID}
_IN_POOL: Dict[str, _Field] = {"project": _ID, "bin": _BIN}

_OPERATIONS: Dict[str, Tuple[Callable[..., Json], Dict[str, _Field]]] = {
    "hello": (_hello, {}),
    "context": (_context, {}),
    "readback": (_readback, dict(_ON_TIMELINE, track=_FRAME, start=_FRAME, end=_FRAME)),
    "still": (_still, dict(_ON_TIMELINE, path=_PATH, timecode=_ID, move=_NO)),
    "ensure_bin": (_ensure_bin, _IN_POOL),
    "import": (
        _import,
        dict(_IN_POOL, path=_PATH, first=(_is_frame, -1), last=(_is_frame, -2), rate=_WORDS),
    ),
    "set_meta": (_set_meta, dict(_IN_POOL, media=_ID, values=(_is_values, _NEEDED))),
    "replace_clip": (_replace_clip, dict(_IN_POOL, media=_ID, path=_PATH)),
    "add_track": (_add_track, dict(_ON_TIMELINE, name=_ID)),
    "place": (
        _place,
        dict(
            _ON_TIMELINE,
            bin=_BIN,
            media=_ID,
            track=_FRAME,
            record_frame=_FRAME,
            start_frame=_FRAME,
            end_frame=_FRAME,
            switch=_NO,
        ),
    ),
    "add_take": (
        _add_take,
        dict(
            _ON_TIMELINE,
            bin=_BIN,
            track=_FRAME,
            start=_FRAME,
            item=_ID,
            media=_ID,
            start_frame=_FRAME,
            end_frame=_FRAME,
            select=_NO,
        ),
    ),
    "add_marker": (
        _add_marker,
        dict(
            _ON_TIMELINE,
            offset=_FRAME,
            color=(lambda value: value in MARKER_COLOURS, "Mint"),
            name=_WORDS,
            note=_WORDS,
            duration=(_is_frame, 1),
            custom_data=_MARK,
        ),
    ),
    "find_marker": (_find_marker, dict(_ON_TIMELINE, custom_data=_MARK)),
    "delete_marker": (_delete_marker, dict(_ON_TIMELINE, custom_data=_MARK)),
    "bye": (_bye, {}),
}

NAMES = frozenset(_OPERATIONS)
# What a script may do beside the one that stays: nothing that moves what that one relies on, the
# media pool's current folder and the current timeline.
AT_ONCE = frozenset(["hello", "context", "readback", "still", "add_marker", "find_marker", "bye"])
