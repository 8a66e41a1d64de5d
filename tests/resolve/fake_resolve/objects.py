"""Resolve's objects. Methods with a `@since` are the scripting interface; the rest is the fake's.

Signatures, versions and behaviour: resolve.md sections 1.2 to 1.6 and 2; where a rule is from
elsewhere in it, its comment says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fake_resolve.media import Media, still
from fake_resolve.rates import RATES, Rate

if TYPE_CHECKING:
    from fake_resolve.world import World

# LUA-MCP README: 16 names, not those of clip colours
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
NO_PLAYHEAD = frozenset({"media", "fusion", "photo", None})  # 1.5 GetCurrentTimecode (PYI)

Kinds = tuple[Any, ...]
NUMBER = (int, float)


@dataclass(frozen=True)
class Rule:
    """When a method is there, and how it answers when it fails."""

    since: tuple[int, ...]
    failure: Any
    is_studio: bool
    takes: tuple[Kinds, ...]  # for each number of arguments, their kinds

    def fits(self, arguments: tuple[Any, ...]) -> bool:
        return any(
            len(kinds) == len(arguments)
            and all(_is_a(argument, kind) for argument, kind in zip(arguments, kinds, strict=True))
            for kinds in self.takes
        )


def _is_a(argument: Any, kind: Any) -> bool:
    if isinstance(argument, bool):  # a bool is no number for their C++ side [I]
        return kind is bool
    return isinstance(argument, kind)


def since(
    *version: int, failure: Any = None, studio: bool = False, takes: tuple[Kinds, ...] = ((),)
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a method part of the interface."""

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        method.rule = Rule(version, failure, studio, takes)  # type: ignore[attr-defined]
        return method

    return mark


@cache
def rules(kind: type) -> list[tuple[str, Rule]]:
    """The interface of a class."""
    named = ((name, getattr(getattr(kind, name), "rule", None)) for name in dir(kind))
    return [(name, rule) for name, rule in named if rule is not None]


class Thing:
    """Something that a script can hold."""

    generation: int | None = None  # of its project; None: it never dies

    def __init__(self, world: World) -> None:
        self.world = world


class InProject(Thing):
    """Dead when another project is opened (6.2 ids/handles)."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.generation = world.generation
        self.id = world.new_id()

    @since(18, 0)
    def GetUniqueId(self) -> str:
        return self.id


class Resolve(Thing):
    @since(16, 2)
    def GetProductName(self) -> str:
        return self.world.product

    @since(16, 2)
    def GetVersion(self) -> Any:
        if self.world.switches.version_answer is not ...:
            return self.world.switches.version_answer
        return [*self.world.version, ""]  # [maj, min, patch, build, suffix]

    @since(16, 2)
    def GetVersionString(self) -> str:
        return ".".join(map(str, self.world.version))

    @since(16, 2)
    def GetCurrentPage(self) -> str | None:
        return self.world.page

    @since(16, 2, failure=False, takes=((str,),))
    def OpenPage(self, name: str) -> bool:
        self.world.page = name
        return True

    @since(16, 2)
    def GetProjectManager(self) -> ProjectManager:
        return self.world.manager

    @since(21, 1)
    def IsStudio(self) -> bool:
        return self.world.is_studio

    @since(16, 2)
    def Quit(self) -> None: ...


class ProjectManager(Thing):
    @since(16, 2)
    def GetCurrentProject(self) -> Project | None:
        return self.world.project

    @since(16, 2)
    def GetCurrentDatabase(self) -> dict[str, str] | None:
        return None if self.world.is_wedged else {"DbType": "Disk", "DbName": "Local Database"}

    @since(16, 2, failure=False)
    def SaveProject(self) -> bool:
        self.save()
        return True

    def save(self) -> None:
        """The editor saves. 2.2: what an errored append placed is discarded (LIM l.342)."""
        assert self.world.project is not None
        for timeline in self.world.project.timelines:
            for track in timeline.video + timeline.audio:
                track.items = [one for one in track.items if not one.is_volatile]


class Fusion(Thing):
    """`fusion`, `fu` and `app` of scripts."""

    @property
    def UIManager(self) -> Any:
        """0.3, 6.2 bootstrap: None on free from 19.1 on, and touching it shows the upsell."""
        if not self.world.has_ui_manager:
            self.world.raise_modal("UIManager is Studio's alone")
            return None
        return Thing(self.world)

    @since(16, 2)
    def GetResolve(self) -> Resolve:
        return self.world.resolve

    @since(16, 2, failure=False, takes=((str, (str, *NUMBER, bool)),))
    def SetPrefs(self, name: str, value: Any) -> bool:
        self.world.prefs[name] = value
        return True

    @since(16, 2, takes=((), (str,)))
    def GetPrefs(self, name: str = "") -> Any:
        return self.world.prefs.get(name)

    @since(16, 2, failure=False)
    def SavePrefs(self) -> bool:
        from fake_resolve.prefs import write

        write(self.world)
        return True


class Bmd(Thing):
    """`bmd` of scripts."""

    @since(16, 2, takes=((str,), (str, str)))
    def scriptapp(self, name: str, host: str = "") -> Any:
        return {"Resolve": self.world.resolve, "Fusion": self.world.fusion}.get(name)

    @since(16, 2, takes=((str,),))
    def fileexists(self, path: str) -> bool:
        return Path(path).is_file()

    @since(16, 2, takes=((str,),))
    def direxists(self, path: str) -> bool:
        return Path(path).is_dir()


class Settings(InProject):
    """What a project and a timeline have in common."""

    settings: dict[str, str]

    @since(16, 2, failure="", takes=((str,), ()))
    def GetSetting(self, name: str = "") -> Any:
        return self.settings.get(name, "") if name else dict(self.settings)

    @since(16, 2, failure=False, takes=((str, str),))
    def SetSetting(self, name: str, value: str) -> bool:
        return True  # 2.1: may answer True with no effect (OW)

    @since(21, 1)
    def GetSettings(self) -> dict[str, Any]:
        """1.2: from 21.1 on all of them at once, the rate as a number (BMD-CL, W09)."""
        said: dict[str, Any] = dict(self.settings)
        said["timelineFrameRate"] = Rate(self.settings["timelineFrameRate"]).number
        return said


class Project(Settings):
    def __init__(self, world: World, name: str) -> None:
        super().__init__(world)
        self.name = name
        rate = world.project_rate or world.rate
        self.settings = {"timelineFrameRate": rate}
        self.pool = MediaPool(world)
        self.timelines: list[Timeline] = []
        self.timeline: Timeline | None = None
        self.timeline = self.add_timeline("Edit", world.rate, world.start_timecode)

    def add_timeline(self, name: str, rate: str, start_timecode: str = "01:00:00:00") -> Timeline:
        """By hand; it is not opened."""
        timeline = Timeline(self.world, name, rate, start_timecode)
        self.timelines.append(timeline)
        return timeline

    @since(16, 2)
    def GetName(self) -> str:
        return self.name

    @since(16, 2)
    def GetMediaPool(self) -> MediaPool:
        return self.pool

    @since(16, 2)
    def GetCurrentTimeline(self) -> Timeline | None:
        return self.timeline

    @since(16, 2, failure=False, takes=((InProject,),))
    def SetCurrentTimeline(self, timeline: Timeline) -> bool:
        if timeline not in self.timelines:
            return False
        self.timeline = timeline
        return True

    @since(16, 2, failure=0)
    def GetTimelineCount(self) -> int:
        return len(self.timelines)

    @since(16, 2, takes=((int,),))
    def GetTimelineByIndex(self, index: int) -> Timeline | None:
        """1-based."""
        return self.timelines[index - 1] if 1 <= index <= len(self.timelines) else None

    @since(18, 5, failure=False, takes=((str,),))
    def ExportCurrentFrameAsStill(self, path: str) -> bool:
        """1.7: the graded picture at timeline resolution; the format by the extension."""
        timeline = self.timeline
        if timeline is None or self.world.switches.stills_fail or self.world.page in NO_PLAYHEAD:
            return False
        if not Path(path).is_absolute() or Path(path).suffix.lower() != ".png":
            return False
        frame = timeline.playhead
        if timeline.num_lagging:  # 1.7: the viewer can lag after SetCurrentTimecode
            timeline.num_lagging -= 1
            frame = timeline.shown
        width, height = (
            int(timeline.settings[f"timelineResolution{s}"]) for s in ("Width", "Height")
        )
        try:
            Path(path).write_bytes(still(frame, width, height))
        except OSError:
            return False
        return True


class MediaPool(InProject):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.root = Folder(world, "Master")
        self.current = self.root
        self.selected: list[MediaPoolItem] = []

    def folders(self) -> list[Folder]:
        found, waiting = [], [self.root]
        while waiting:
            found.append(waiting.pop())
            waiting += found[-1].folders
        return found

    @since(16, 2)
    def GetRootFolder(self) -> Folder:
        return self.root

    @since(16, 2)
    def GetCurrentFolder(self) -> Folder:
        return self.current

    @since(16, 2, failure=False, takes=((InProject,),))
    def SetCurrentFolder(self, folder: Folder) -> bool:
        if folder not in self.folders():
            return False
        self.current = folder
        return True

    @since(16, 2, takes=((InProject, str),))
    def AddSubFolder(self, folder: Folder, name: str) -> Folder | None:
        """None where the name is taken; does not select reliably [I]."""
        if any(inner.name == name for inner in folder.folders):
            return None
        inner = Folder(self.world, name)
        folder.folders.append(inner)
        return inner

    @since(19, 0, 2, failure=[])
    def GetSelectedClips(self) -> list[MediaPoolItem]:
        return list(self.selected)

    @since(19, 0, 2, failure=False, takes=((InProject,),))
    def SetSelectedClip(self, clip: MediaPoolItem) -> bool:
        self.selected = [clip]
        return True

    @since(17, 4, failure=[], takes=((list,),))
    def ImportMedia(self, asked: list[Any]) -> list[MediaPoolItem]:
        """1.3: into the current folder alone; [] without a word for what is no media (LIM l.217)."""
        if self.world.switches.import_refuses:
            return []
        made = []
        for one in asked:
            clip = self._sequence(one) if isinstance(one, dict) else self._file(one)
            if clip is not None:
                self.current.clips.append(clip)  # 2.4: the same path twice makes a second one (OW)
                made.append(clip)
        return made

    def _file(self, path: str) -> MediaPoolItem | None:
        media = self.world.media_in(path)
        if media is None or not Path(path).is_file():
            return None
        return MediaPoolItem(self.world, path, media)

    def _sequence(self, asked: dict[str, Any]) -> MediaPoolItem | None:
        if set(asked) - {"FilePath", "StartIndex", "EndIndex"}:
            self.world.misuse(f"ImportMedia with other keys: {sorted(asked)}")
            return None
        if "StartIndex" not in asked:
            return self._file(asked["FilePath"])
        first, last = int(asked["StartIndex"]), int(asked["EndIndex"])
        shown = [Path(asked["FilePath"] % index) for index in range(first, last + 1)]
        if not shown or not all(path.is_file() for path in shown):
            return None
        assert self.world.project is not None
        # 2.3: image sequences come in at the project's rate
        rate = self.world.project.settings["timelineFrameRate"].removesuffix(" DF")
        return MediaPoolItem(self.world, asked["FilePath"], Media(len(shown), rate))

    @since(16, 2, failure=[], takes=((list,),))
    def AppendToTimeline(self, asked: list[Any]) -> list[Any]:
        assert self.world.project is not None
        timeline = self.world.project.timeline
        if timeline is None:
            return []
        placed: list[Any] = []
        for one in asked:
            if isinstance(one, MediaPoolItem):
                one = {"mediaPoolItem": one}
            placed += self._append(timeline, one)
        return placed

    def _append(self, timeline: Timeline, asked: dict[str, Any]) -> list[Any]:
        world = self.world
        if not self._is_sound(asked):
            return []
        if self._needs_selection() and not self.selected:
            return []  # 1.3 BMD-CL: "failure when no media pool clip is selected", up to 20.3.2
        clip: MediaPoolItem = asked["mediaPoolItem"]
        index = int(asked.get("trackIndex", 1))
        track = timeline.find("video", index)
        if track is None or track.is_locked:
            return [Dead(world)]  # 2.2: locked or missing track (AS test)
        start = int(asked.get("startFrame", 0))
        end = int(asked.get("endFrame", clip.media.frames))
        frames = min(end, clip.media.frames) - start  # a clip has no more than its file [I]
        length = clip.length_on(timeline, frames + world.switches.inclusive_end)
        if length <= 0 or start < 0:
            return []
        # 2.2: without one to the end of all, whatever the track (index 69449022051)
        record = int(asked.get("recordFrame", timeline.end))
        if record < timeline.start:
            # 2.2 (OW; CaptRauti): outside of the timeline, whose length is zero from then on
            world.misuse(f"recordFrame {record} before the timeline's start {timeline.start}")
            timeline.is_broken = True
            return [None]
        if track.collides(record, record + length):
            # 2.2 (LIM l.334, 560): the earlier one wins, the new one is dropped
            drops = {"dropped": [], "null_id": [Dead(world)], "none": [None]}
            return drops[world.switches.collision]
        item = TimelineItem(world, timeline, clip, record, length, start)
        item.is_of_script = True
        track.put(item)
        if asked.get("mediaType") != 1 and clip.media.has_audio:
            # 2.2: linked sound too (BMD-RM l.238)
            timeline.audio[0].put(TimelineItem(world, timeline, clip, record, length, start))
        if world.switches.append_errs:
            world.switches.append_errs -= 1
            item.is_volatile = True
            return [None]
        return [item]

    def _is_sound(self, asked: dict[str, Any]) -> bool:
        """Whether it is a description of a clip that can be placed (BMD-RM l.238)."""
        fields = [
            "mediaPoolItem",
            "startFrame",
            "endFrame",
            "mediaType",
            "trackIndex",
            "recordFrame",
        ]
        clip = asked.get("mediaPoolItem")
        if set(asked) - set(fields) or not isinstance(clip, MediaPoolItem):
            self.world.misuse(f"AppendToTimeline with {sorted(asked)}")
            return False
        if isinstance(asked.get("recordFrame"), float) and self.world.version < (19, 0, 2):
            self.world.misuse("recordFrame is a float only from 19.0.2 on")  # 1.3 BMD-CL
            return False
        return clip.generation == self.world.generation

    def _needs_selection(self) -> bool:
        """Fixed in 20.3.2; asked for from 19.0.2 on, where a script can select (BMD-CL)."""
        asked = self.world.switches.needs_selection
        return (19, 0, 2) <= self.world.version < (20, 3, 2) if asked is None else asked

    @since(16, 2, failure=False, takes=((list,),))
    def DeleteClips(self, clips: list[Any]) -> bool:
        self.world.misuse("media is never to be deleted")
        return True

    @since(16, 2, failure=False, takes=((list,),))
    def DeleteTimelines(self, timelines: list[Any]) -> bool:
        return True


class Folder(InProject):
    def __init__(self, world: World, name: str) -> None:
        super().__init__(world)
        self.name = name
        self.folders: list[Folder] = []
        self.clips: list[MediaPoolItem] = []

    @since(16, 2)
    def GetName(self) -> str:
        return self.name

    @since(16, 2, failure=[])
    def GetClipList(self) -> list[MediaPoolItem]:
        return list(self.clips)

    @since(16, 2, failure=[])
    def GetSubFolderList(self) -> list[Folder]:
        return list(self.folders)


class MediaPoolItem(InProject):
    def __init__(self, world: World, path: str, media: Media) -> None:
        super().__init__(world)
        self.media = media
        self.path = path
        self.name = Path(path).name
        self.rate = media.rate
        self.metadata: dict[str, str] = {}
        self.third_party: dict[str, str] = {}

    def length_on(self, timeline: Timeline, frames: int) -> int:
        """2.2: source frames at another rate become fewer, cut off to a whole (LIM l.500)."""
        exact = RATES.get(self.rate) or Fraction(self.rate)
        return math.floor(frames * timeline.rate.exact / exact)

    @since(16, 2)
    def GetName(self) -> str:
        return self.name

    @since(16, 2)
    def GetMediaId(self) -> str:
        return self.id

    @since(16, 2, failure="", takes=((str,), ()))
    def GetClipProperty(self, name: str = "") -> Any:
        """All strings, except that FPS is a number in the field's recordings [R]."""
        said = {
            "File Path": self.path,
            "FPS": float(self.rate),
            "Frames": str(self.media.frames),
            "Resolution": f"{self.media.width}x{self.media.height}",
            "Start TC": "00:00:00:00",
        }
        return said.get(name, "") if name else said

    @since(16, 2, failure=False, takes=((str, str),))
    def SetClipProperty(self, name: str, value: str) -> bool:
        if name != "FPS" or value not in RATES:
            return False
        self.rate = value
        return True

    @since(16, 2, takes=((), (str,)))
    def GetMetadata(self, name: str = "") -> Any:
        return self.metadata.get(name, "") if name else dict(self.metadata)

    @since(16, 2, failure=False, takes=((str, str), (dict,)))
    def SetMetadata(self, name: Any, value: str = "") -> bool:
        if self.world.switches.metadata_sticks:
            self.metadata.update(name if isinstance(name, dict) else {name: value})
        return True

    @since(19, 0, 2, takes=((), (str,)))
    def GetThirdPartyMetadata(self, name: str = "") -> Any:
        return self.third_party.get(name, "") if name else dict(self.third_party)

    @since(19, 0, 2, failure=False, takes=((str, str), (dict,)))
    def SetThirdPartyMetadata(self, name: Any, value: str = "") -> bool:
        if self.world.switches.metadata_sticks:
            self.third_party.update(name if isinstance(name, dict) else {name: value})
        return True

    @since(17, 4, failure=False, takes=((str,),))
    def ReplaceClip(self, path: str) -> bool:
        media = self.world.media_in(path)
        if media is None:
            return False
        self.path, self.media, self.rate = path, media, media.rate
        return True

    @since(18, 5, failure=False, studio=True)
    def TranscribeAudio(self) -> bool:
        """Stands for what is Studio's alone and listed all the same (2.5)."""
        return True


class Track:
    """The items of one, in their order; never one over another."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_locked = False
        self.is_enabled = True
        self.items: list[TimelineItem] = []

    def collides(self, start: int, end: int) -> bool:
        return any(one.start < end and start < one.end for one in self.items)

    def put(self, item: TimelineItem) -> None:
        self.items = sorted([*self.items, item], key=lambda one: one.start)


class Timeline(Settings):
    def __init__(self, world: World, name: str, rate: str, start_timecode: str) -> None:
        super().__init__(world)
        self.name = name
        self.rate = Rate(rate)
        timecode = start_timecode
        if self.rate.drops:
            timecode = start_timecode[:-3] + ";" + start_timecode[-2:]
        start = self.rate.frames(timecode)
        assert start is not None
        # 6.2 start offset: 86400 at 24, 90000 at 25, 107892 at 29.97 DF, 108000 at 29.97, 0 too
        self.start = start
        self.settings = {
            "timelineFrameRate": rate,  # 2.3: "23.976", "29.97", "29.97 DF"
            "timelineDropFrameTimecode": "1" if self.rate.drops else "0",
            "timelineResolutionWidth": "1920",
            "timelineResolutionHeight": "1080",
            "useCustomSettings": "0",
        }
        self.video = [Track("Video 1")]
        self.audio = [Track("Audio 1")]
        self.markers: dict[int, dict[str, Any]] = {}
        self.mark: dict[str, dict[str, int]] = {}
        self.selection: list[TimelineItem] = []
        self.playhead = self.start
        self.shown = self.start  # what the viewer shows until it has caught up
        self.num_lagging = 0
        self.is_broken = False

    @property
    def end(self) -> int:
        ends = [one.end for track in self.video + self.audio for one in track.items]
        return max([self.start, *ends]) if not self.is_broken else self.start

    def put(
        self, clip: MediaPoolItem, track: int, offset: int, frames: int, start: int = 0
    ) -> TimelineItem:
        """By hand: a clip on a track, `offset` frames after the timeline's start."""
        item = TimelineItem(self.world, self, clip, self.start + offset, frames, start)
        self.video[track - 1].put(item)
        return item

    def find(self, kind: str, index: int) -> Track | None:
        """1-based; None: index 0, or more than there are (6.2 tracks)."""
        tracks = {"video": self.video, "audio": self.audio}.get(kind, [])
        return tracks[index - 1] if 1 <= index <= len(tracks) else None

    @since(16, 2)
    def GetName(self) -> str:
        return self.name

    @since(16, 2)
    def GetStartFrame(self) -> int:
        return self.start

    @since(16, 2)
    def GetEndFrame(self) -> int:
        return self.end

    @since(18, 0)
    def GetStartTimecode(self) -> str:
        return self.rate.timecode(self.start)

    @since(16, 2)
    def GetCurrentTimecode(self) -> str | None:
        """1.5: not on the Media and Fusion pages (PYI)."""
        return None if self.world.page in NO_PLAYHEAD else self.rate.timecode(self.playhead)

    @since(17, 4, failure=False, takes=((str,),))
    def SetCurrentTimecode(self, timecode: str) -> bool:
        """1.5: before the start False (LIM)."""
        frame = self.rate.frames(timecode)
        if frame is None or frame < self.start or self.world.page in NO_PLAYHEAD:
            return False
        self.shown, self.playhead = self.playhead, frame
        self.num_lagging = self.world.switches.num_lagging_stills
        return True

    @since(16, 2, failure=0, takes=((str,),))
    def GetTrackCount(self, kind: str) -> int:
        return len({"video": self.video, "audio": self.audio}.get(kind, []))

    @since(18, 5, failure=False, takes=((str,), (str, (str, dict))))
    def AddTrack(self, kind: str, options: Any = None) -> bool:
        if not self.world.switches.listens_to_add_track or kind not in ("video", "audio"):
            return False
        tracks = self.video if kind == "video" else self.audio
        tracks.append(Track(f"{kind.title()} {len(tracks) + 1}"))
        return True

    @since(16, 2, failure="", takes=((str, int),))
    def GetTrackName(self, kind: str, index: int) -> str | None:
        track = self.find(kind, index)
        return track and track.name

    @since(16, 2, failure=False, takes=((str, int, str),))
    def SetTrackName(self, kind: str, index: int, name: str) -> bool:
        track = self.find(kind, index)
        if track is None:
            return False
        track.name = name
        return True

    @since(18, 5, failure=False, takes=((str, int),))
    def GetIsTrackLocked(self, kind: str, index: int) -> bool:
        track = self.find(kind, index)
        return track is not None and track.is_locked

    @since(18, 5, failure=False, takes=((str, int),))
    def GetIsTrackEnabled(self, kind: str, index: int) -> bool:
        track = self.find(kind, index)
        return track is not None and track.is_enabled

    @since(18, 5, failure=False, takes=((str, int),))
    def DeleteTrack(self, kind: str, index: int) -> bool:
        return True

    @since(16, 2, takes=((str, int),))
    def GetItemListInTrack(self, kind: str, index: int) -> list[TimelineItem] | None:
        track = self.find(kind, index)
        return None if track is None else list(track.items)

    @since(16, 2)
    def GetCurrentVideoItem(self) -> TimelineItem | None:
        """The one under the playhead, of the topmost track that has one [I]."""
        if self.world.page in NO_PLAYHEAD:
            return None
        for track in reversed(self.video):
            for one in track.items:
                if one.start <= self.playhead < one.end:
                    return one
        return None

    @since(21, 0, 4, failure=[])
    def GetSelectedClips(self) -> list[TimelineItem]:
        return list(self.selection)

    @since(19, 1)
    def GetMarkInOut(self) -> dict[str, dict[str, int]]:
        """1.5: from the timeline's start; either side may be missing (AS)."""
        return {kind: dict(sides) for kind, sides in self.mark.items()}

    @since(16, 2)
    def GetMarkers(self) -> dict[float, dict[str, Any]]:
        """1.5: offsets from the start, as floats (LUA-MCP)."""
        return {float(offset): dict(marker) for offset, marker in self.markers.items()}

    @since(
        17,
        4,
        failure=False,
        takes=((NUMBER, str, str, str, NUMBER), (NUMBER, str, str, str, NUMBER, str)),
    )
    def AddMarker(
        self,
        offset: float,
        color: str,
        name: str,
        note: str,
        duration: float,
        custom_data: str = "",
    ) -> bool:
        """6.2: offset, one a frame, 16 colours; an absolute frame falls outside."""
        if color not in MARKER_COLOURS or int(offset) in self.markers or duration < 1:
            return False
        if self.start and offset >= self.start:
            self.world.misuse(f"a marker at {offset}: markers are counted from the start")
            return False
        self.markers[int(offset)] = {
            "color": color,
            "duration": float(duration),
            "note": note,
            "name": name,
            "customData": custom_data,
        }
        return True

    @since(17, 4, takes=((str,),))
    def GetMarkerByCustomData(self, custom_data: str) -> dict[float, Any]:
        found = {k: v for k, v in self.GetMarkers().items() if v["customData"] == custom_data}
        return found

    @since(17, 4, failure=False, takes=((NUMBER, str),))
    def UpdateMarkerCustomData(self, offset: float, custom_data: str) -> bool:
        if int(offset) not in self.markers:
            return False
        self.markers[int(offset)]["customData"] = custom_data
        return True

    @since(17, 4, failure=False, takes=((str,),))
    def DeleteMarkerByCustomData(self, custom_data: str) -> bool:
        for offset, marker in self.markers.items():
            if marker["customData"] == custom_data:
                if not custom_data.startswith("freeswim:"):
                    self.world.misuse(f"deletes the marker {custom_data!r} of somebody")
                del self.markers[offset]
                return True
        return False

    @since(18, 5, failure=False, takes=((list,), (list, bool)))
    def DeleteClips(self, items: list[Any], ripple: bool = False) -> bool:
        """1.5: on the Edit page only (LIM l.488). Strict: only what a script placed itself."""
        if ripple or not all(one.is_of_script for one in items):
            self.world.misuse("deletes what is the editor's")
        if self.world.page != "edit":
            return False
        for track in self.video + self.audio:
            track.items = [one for one in track.items if one not in items]
        return True


class TimelineItem(InProject):
    def __init__(
        self,
        world: World,
        timeline: Timeline,
        clip: MediaPoolItem | None,
        start: int,
        length: int,
        source: int,
    ) -> None:
        super().__init__(world)
        self.timeline = timeline
        self.clip = clip  # 1.6: None for titles and generators
        self.start = start
        self.length = length
        self.source = source
        self.is_volatile = False
        self.is_of_script = False
        self.takes: list[tuple[MediaPoolItem, int, int]] = []
        self.shown_take = 0

    @property
    def end(self) -> int:
        return self.start + self.length

    def _number(self, frame: int, subframe: bool) -> float | int:
        return float(frame) if subframe else frame  # 1.6: the argument from 19.0.2 on

    @since(16, 2)
    def GetName(self) -> str:
        return self.clip.name if self.clip else "Title"

    @since(16, 2, takes=((), (bool,)))
    def GetStart(self, subframe: bool = False) -> float | int:
        return self._number(self.start, subframe)

    @since(16, 2, takes=((), (bool,)))
    def GetEnd(self, subframe: bool = False) -> float | int:
        """Not part of it: M computes gaps as next.GetStart() - prev.GetEnd()."""
        return self._number(self.end, subframe)

    @since(16, 2, takes=((), (bool,)))
    def GetDuration(self, subframe: bool = False) -> float | int:
        return self._number(self.length, subframe)

    @since(16, 2)
    def GetLeftOffset(self) -> int:
        return self.source

    @since(19, 0, 2)
    def GetSourceStartFrame(self) -> int:
        return self.source

    @since(19, 0)
    def GetTrackTypeAndIndex(self) -> list[Any]:
        for kind, tracks in (("video", self.timeline.video), ("audio", self.timeline.audio)):
            for index, track in enumerate(tracks, 1):
                if self in track.items:
                    return [kind, index]
        return []

    @since(16, 2)
    def GetMediaPoolItem(self) -> MediaPoolItem | None:
        return self.clip

    @since(16, 2, failure=False, takes=((InProject,), (InProject, NUMBER, NUMBER)))
    def AddTake(self, clip: MediaPoolItem, start: int = 0, end: int = 0) -> bool:
        """Makes a take selector of the item, with what it showed as its first take (BMD-RM)."""
        if not self.takes and self.clip is not None:
            self.takes.append((self.clip, self.source, self.source + self.length))
        self.takes.append((clip, int(start), int(end)))
        self.shown_take = len(self.takes)  # whether the new one is shown is not established [I]
        return True

    @since(16, 2, failure=0)
    def GetTakesCount(self) -> int:
        return len(self.takes)

    @since(16, 2, failure=0)
    def GetSelectedTakeIndex(self) -> int:
        return self.shown_take

    @since(16, 2, failure=False, takes=((int,),))
    def SelectTakeByIndex(self, index: int) -> bool:
        """1-based."""
        if not 1 <= index <= len(self.takes):
            return False
        self.shown_take = index
        return True

    @since(18, 5, failure=False, studio=True, takes=((str,),))
    def CreateMagicMask(self, mode: str) -> bool:
        """Stands for what is Studio's alone and listed all the same (2.5)."""
        return True


class Dead(TimelineItem):
    """2.1: truthy, but its methods answer None, and its id is empty (LIM l.560; W09)."""

    def __init__(self, world: World) -> None:
        InProject.__init__(self, world)
        self.generation = -1
