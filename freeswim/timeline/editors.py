"""One "Export for ..." choice per editor: which files it opens, and how to open them.

What is said here of Resolve, Premiere, Final Cut, Avid and Shotcut follows their documentation and
their users' reports; only melt and Blender have rendered our timelines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from freeswim.errors import RequestError

Kind = Literal["otio", "otioz", "fcpxml", "xml", "edl", "mlt", "kdenlive", "aaf", "blender"]
UrlStyle = Literal["relative", "absolute", "plain"]

FILES: dict[Kind, str] = {
    "otio": "{name}.otio",
    "otioz": "{name}.otioz",
    "fcpxml": "{name}.fcpxml",
    "xml": "{name}.xml",
    "edl": "{name}_{track}.edl",  # one per track
    "mlt": "{name}.mlt",
    "kdenlive": "{name}.kdenlive",
    "aaf": "{name}.aaf",
    "blender": "{name}_blender.py",
}


@dataclass(frozen=True)
class Editor:
    """What one editor is given."""

    name: str  # as it is typed
    title: str
    kinds: tuple[Kind, ...]  # of timelines, the one to try first first
    codec: str  # of the masters
    steps: tuple[str, ...]  # how to open it; {otio}, {xml}, ... are names of files
    url_style: UrlStyle = "relative"  # of .otio
    is_flat: bool = False  # timelines beside their media


EDITORS = (
    Editor(
        name="resolve",
        title="DaVinci Resolve",
        kinds=("otio", "fcpxml", "edl"),
        codec="prores-hq",
        steps=(
            "Drag the .mov files of this folder into the media pool.",
            "File > Import > Timeline, and choose {otio}.",
            "If clips are offline, or your version is older than 18.5: import {fcpxml} instead.",
            "{edl} is for conforming by hand, against the media in the pool.",
        ),
        is_flat=True,
    ),
    Editor(
        name="premiere",
        title="Adobe Premiere Pro",
        kinds=("otio", "xml"),
        codec="prores-hq",
        steps=(
            "File > Import, and choose {otio} (version 25.6 or later), else {xml}.",
            "{otio} names the media by whole paths: do not move this folder.",
        ),
        url_style="absolute",
    ),
    Editor(
        name="final-cut",
        title="Final Cut Pro",
        kinds=("fcpxml",),
        codec="prores-hq",
        steps=("File > Import > XML, and choose {fcpxml}. Takes are auditions.",),
    ),
    Editor(
        name="kdenlive",
        title="Kdenlive",
        kinds=("kdenlive", "otio"),
        codec="prores-hq",
        steps=(
            "Open {kdenlive} as a project.",
            "Its own import of {otio} loses the in-point of each track's last clip (26.08).",
        ),
    ),
    Editor(
        name="shotcut",
        title="Shotcut",
        kinds=("mlt",),
        codec="prores-hq",
        steps=("File > Open MLT XML As Clip, and choose {mlt}.",),
    ),
    Editor(
        name="avid",
        title="Avid Media Composer",
        kinds=("edl", "aaf"),
        codec="dnxhr-hqx-mxf",
        steps=(
            "Link to the .mxf files, then import {aaf} if it is there.",
            "Else import one {edl} per track. Dissolves are cuts in the AAF.",
        ),
    ),
    Editor(
        name="blender",
        title="Blender",
        kinds=("blender",),
        codec="h264",
        steps=("In the Scripting workspace open {blender} and run it.",),
    ),
    Editor(
        name="archive",
        title="Archive and review",
        kinds=("otioz", "otio"),
        codec="prores-hq",
        steps=("{otioz} holds the timeline and all media in one file.",),
    ),
)


def find_editor(name: str) -> Editor:
    """The editor of this name. Raises RequestError."""
    for editor in EDITORS:
        if editor.name == name:
            return editor
    raise RequestError(
        f"There is no export for {name!r}.",
        hint=f"One of: {', '.join(editor.name for editor in EDITORS)}.",
    )
