"""The border to Resolve's scripting interface: the only place where its methods are called.

What it hides: nothing there raises, failures look like answers, `hasattr` is always true, and one
call of what the edition lacks makes every later one fail until a person clicks (resolve.md 2.1,
2.5). So a method is called only if it is in the table below, this version and edition have it, and
`dir()` of the object lists it. A call that cannot be made gives None, as one that failed does.
"""

from typing import Any, Dict, FrozenSet, List, Optional, Tuple

OLDEST = (18, 5, 0)  # where trackIndex, recordFrame, stills and AddTrack arrive (resolve.md 1)

# Methods that are ever called, and since when they are there (resolve.md 1.2 to 1.6). None of them
# is Studio's alone; none saves the project, deletes media or renders.
_SINCE: Dict[str, Dict[str, Tuple[int, int, int]]] = {
    "Resolve": {
        "GetProductName": (16, 2, 0),
        "GetVersion": (16, 2, 0),
        "GetVersionString": (16, 2, 0),
        "GetCurrentPage": (16, 2, 0),
        "GetProjectManager": (16, 2, 0),
    },
    "ProjectManager": {"GetCurrentProject": (16, 2, 0), "GetCurrentDatabase": (16, 2, 0)},
    "Project": {
        "GetName": (16, 2, 0),
        "GetUniqueId": (18, 0, 0),
        "GetMediaPool": (16, 2, 0),
        "GetCurrentTimeline": (16, 2, 0),
        "SetCurrentTimeline": (16, 2, 0),
        "GetTimelineCount": (16, 2, 0),
        "GetTimelineByIndex": (16, 2, 0),
        "GetSetting": (16, 2, 0),
        "GetSettings": (21, 1, 0),
        "ExportCurrentFrameAsStill": (18, 5, 0),
    },
    "MediaPool": {
        "GetRootFolder": (16, 2, 0),
        "GetCurrentFolder": (16, 2, 0),
        "SetCurrentFolder": (16, 2, 0),
        "AddSubFolder": (16, 2, 0),
        "ImportMedia": (17, 4, 0),
        "AppendToTimeline": (18, 5, 0),  # with trackIndex and recordFrame
        "GetSelectedClips": (19, 0, 2),
        "SetSelectedClip": (19, 0, 2),
    },
    "Folder": {
        "GetName": (16, 2, 0),
        "GetUniqueId": (18, 0, 0),
        "GetClipList": (16, 2, 0),
        "GetSubFolderList": (16, 2, 0),
    },
    "MediaPoolItem": {
        "GetName": (16, 2, 0),
        "GetUniqueId": (18, 0, 0),
        "GetClipProperty": (16, 2, 0),
        "SetClipProperty": (16, 2, 0),
        "GetMetadata": (16, 2, 0),
        "SetMetadata": (16, 2, 0),
        "GetThirdPartyMetadata": (19, 0, 2),
        "SetThirdPartyMetadata": (19, 0, 2),
        "ReplaceClip": (17, 4, 0),
    },
    "Timeline": {
        "GetName": (16, 2, 0),
        "GetUniqueId": (18, 0, 0),
        "GetStartFrame": (16, 2, 0),
        "GetEndFrame": (16, 2, 0),
        "GetStartTimecode": (18, 0, 0),
        "GetCurrentTimecode": (16, 2, 0),
        "SetCurrentTimecode": (17, 4, 0),
        "GetSetting": (16, 2, 0),
        "GetSettings": (21, 1, 0),
        "GetTrackCount": (16, 2, 0),
        "GetTrackName": (16, 2, 0),
        "SetTrackName": (16, 2, 0),
        "GetIsTrackLocked": (18, 5, 0),
        "GetIsTrackEnabled": (18, 5, 0),
        "AddTrack": (18, 5, 0),
        "GetItemListInTrack": (16, 2, 0),
        "GetCurrentVideoItem": (16, 2, 0),
        "GetSelectedClips": (21, 0, 4),
        "GetMarkInOut": (19, 1, 0),
        "GetMarkers": (16, 2, 0),
        "AddMarker": (17, 4, 0),  # with customData
        "UpdateMarkerCustomData": (17, 4, 0),
        "DeleteMarkerByCustomData": (17, 4, 0),
        "DeleteClips": (18, 5, 0),  # only ever of what this program placed a moment ago
    },
    "TimelineItem": {
        "GetName": (16, 2, 0),
        "GetUniqueId": (18, 0, 0),
        "GetStart": (16, 2, 0),
        "GetEnd": (16, 2, 0),
        "GetDuration": (16, 2, 0),
        "GetLeftOffset": (16, 2, 0),
        "GetSourceStartFrame": (19, 0, 2),
        "GetTrackTypeAndIndex": (19, 0, 0),
        "GetMediaPoolItem": (16, 2, 0),
        "AddTake": (16, 2, 0),
        "GetTakesCount": (16, 2, 0),
        "GetSelectedTakeIndex": (16, 2, 0),
        "SelectTakeByIndex": (16, 2, 0),
    },
}


class Thing:
    """An object of Resolve's, and what kind it is."""

    def __init__(self, border: "Border", kind: str, handle: Any) -> None:
        self._border = border
        self._kind = kind
        self.handle = handle

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the method answers; None where it cannot be called."""
        return self._border.call(self._kind, self.handle, method, arguments)

    def can(self, method: str) -> bool:
        """Whether this Resolve has the method."""
        return self._border.has(self._kind, self.handle, method)

    def get(self, kind: str, method: str, *arguments: Any) -> "Optional[Thing]":
        """The object that the method answers with, as a `kind`; None: none."""
        return self._border.thing(kind, self.ask(method, *arguments))

    def get_all(self, kind: str, method: str, *arguments: Any) -> "List[Thing]":
        """The objects of the list that the method answers with; lists come sparse, and as None."""
        answer = self.ask(method, *arguments)
        if isinstance(answer, dict):  # older versions: {1: first, 2: second}
            answer = [answer[key] for key in sorted(answer)]
        if not isinstance(answer, list):
            return []
        things = [self._border.thing(kind, handle) for handle in answer]
        return [thing for thing in things if thing is not None]

    @property
    def id(self) -> str:
        """Its unique id; empty: the handle is dead (resolve.md 2.1)."""
        return text(self.ask("GetUniqueId"), 200)

    @property
    def name(self) -> str:
        return text(self.ask("GetName"))


class Border:
    """Resolve, as far as this version and edition of it can be asked."""

    def __init__(self, resolve: Any) -> None:
        self._known: Dict[str, FrozenSet[str]] = {}  # methods of a kind
        self.version: Tuple[int, int, int] = OLDEST  # until it has said
        self.root = Thing(self, "Resolve", resolve)
        self.product = text(self.root.ask("GetProductName"), 100)
        self.version = _version(self.root.ask("GetVersion"))
        self.version_words = text(self.root.ask("GetVersionString"), 100)

    @property
    def is_studio(self) -> bool:
        return "Studio" in self.product

    @property
    def is_alive(self) -> bool:
        """Whether Resolve answers at all; a wedged one has no database (resolve.md 1.2)."""
        manager = self.root.get("ProjectManager", "GetProjectManager")
        return manager is not None and bool(manager.ask("GetCurrentDatabase"))

    def project(self) -> Optional[Thing]:
        manager = self.root.get("ProjectManager", "GetProjectManager")
        return manager and manager.get("Project", "GetCurrentProject")

    def thing(self, kind: str, handle: Any) -> Optional[Thing]:
        return Thing(self, kind, handle) if handle else None

    def has(self, kind: str, handle: Any, method: str) -> bool:
        """Whether it can be called: by table, by what the object lists, by what it then is.

        Never by calling it.
        """
        since = _SINCE[kind][method]
        if not handle or self.version < since:
            return False
        if kind not in self._known:
            try:
                listed = frozenset(str(name) for name in dir(handle))
            except Exception:
                return False
            if not listed:
                return False
            self._known[kind] = listed
        if method not in self._known[kind]:
            return False
        try:
            return callable(getattr(handle, method))
        except Exception:
            return False

    def call(self, kind: str, handle: Any, method: str, arguments: Tuple[Any, ...]) -> Any:
        if not self.has(kind, handle, method):
            return None
        try:
            return getattr(handle, method)(*arguments)
        except Exception:  # whatever their bridge raises; it must not end in Resolve's console
            return None


def _version(said: Any) -> Tuple[int, int, int]:
    """From [20, 3, 2, 9, ""]; the oldest that is supported where it is not said."""
    if not isinstance(said, list) or len(said) < 3:
        return OLDEST
    try:
        return int(said[0]), int(said[1]), int(said[2])
    except (TypeError, ValueError):
        return OLDEST


def text(said: Any, most: int = 1000) -> str:
    """A string that JSON can carry and the studio's guard lets through; empty for what is none."""
    if not isinstance(said, str):
        return ""
    return said.replace("\0", "")[:most].encode("utf-8", "replace").decode("utf-8")


def whole(said: Any) -> Optional[int]:
    """A frame number; from 19.0.2 on they come as floats too. None: it is none."""
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        return None
    try:
        return round(said)
    except (OverflowError, ValueError):
        return None
