"""A cut -> a Python script that lays it out in Blender's video sequencer.

Blender imports no timelines, and add-ons that do break from version to version. The script needs
nothing but Blender, makes a scene of its own, and asks Blender for the names that changed between
3.4 and 5: measured with 3.4, written for the others from their documentation.

Sound has strips of its own, below those of pictures. Blender has no cross-fade for sound: where a
dissolve is, the volumes of both strips are animated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from freeswim.errors import RequestError
from freeswim.timeline.cut import Clip, Cut, Dissolve, Track
from freeswim.timeline.mlt import resource
from freeswim.timeline.otio import stack_markers

_MAX_CHANNELS = 128  # of Blender's sequencer
_ROWS = 3  # channels of a track: clips in turn where they dissolve, and the dissolves
_SOUND_ROWS = 2  # of a track of sound

_SCRIPT = '''"""{title}: made by FreeSwim for Blender's video sequencer.

Run it with   blender --python THIS_FILE   or from Blender's text editor.
"""

import json
import os

import bpy

CUT = json.loads({cut})


def own_folder():
    """Where this file lies; the text editor knows it by another name."""
    for text in bpy.data.texts:
        if text.filepath and text.name == os.path.basename(__file__):
            return os.path.dirname(bpy.path.abspath(text.filepath))
    return os.path.dirname(os.path.abspath(__file__))


def new_scene():
    scene = bpy.data.scenes.new(CUT["name"])
    scene.render.fps = CUT["fps"]
    scene.render.fps_base = CUT["fps_base"]
    scene.render.resolution_x = CUT["width"]
    scene.render.resolution_y = CUT["height"]
    scene.render.resolution_percentage = 100
    scene.frame_start = 1
    scene.frame_end = CUT["num_frames"]
    scene.view_settings.view_transform = "Standard"  # the others change a video's colours
    for marker in CUT["markers"]:
        scene.timeline_markers.new(marker["text"], frame=1 + marker["frame"])
    return scene


def add_clip(strips, clip):
    strip = strips.new_movie(
        name=clip["name"],
        filepath=os.path.normpath(os.path.join(own_folder(), clip["path"])),
        channel=clip["channel"],
        frame_start=1 + clip["at"] - clip["start"],
        fit_method="FIT",
    )
    strip.frame_offset_start = clip["start"]
    strip.frame_offset_end = strip.frame_duration - clip["start"] - clip["num_frames"]
    strip.mute = not clip["is_enabled"]
    return strip


def add_dissolve(strips, dissolve, first, second):
    known = strips.bl_rna.functions["new_effect"].parameters.keys()
    start, length = 1 + dissolve["at"], dissolve["num_frames"]
    values = {{"frame_start": start, "frame_end": start + length, "length": length}}
    values.update(seq1=first, seq2=second, input1=first, input2=second)  # before and from 5.0
    values.update(name="Dissolve", type="CROSS", channel=dissolve["channel"])
    strips.new_effect(**{{name: value for name, value in values.items() if name in known}})


def add_sound(strips, clip):
    strip = strips.new_sound(
        name=clip["name"],
        filepath=os.path.normpath(os.path.join(own_folder(), clip["path"])),
        channel=clip["channel"],
        frame_start=1 + clip["at"] - clip["start"],
    )
    strip.frame_offset_start = clip["start"]
    strip.frame_final_duration = clip["num_frames"]
    strip.mute = not clip["is_enabled"]
    start, end = 1 + clip["at"], 1 + clip["at"] + clip["num_frames"]
    for first, last, volumes in (
        (start, start + clip["fade_in"], (0, 1)),
        (end - clip["fade_out"], end, (1, 0)),
    ):
        for frame, volume in zip((first, last), volumes) if first < last else ():
            strip.volume = volume
            strip.keyframe_insert("volume", frame=frame)


def show(scene):
    if bpy.context.window:
        bpy.context.window.scene = scene
    if hasattr(bpy.context.workspace, "sequencer_scene"):  # from 5.0
        bpy.context.workspace.sequencer_scene = scene


def main():
    scene = new_scene()
    editor = scene.sequence_editor_create()
    strips = getattr(editor, "strips", None)  # from 4.4
    if strips is None:
        strips = editor.sequences
    added = [add_clip(strips, clip) for clip in CUT["clips"]]
    for clip in CUT["sound"]:
        add_sound(strips, clip)
    for dissolve in CUT["dissolves"]:
        add_dissolve(strips, dissolve, added[dissolve["first"]], added[dissolve["second"]])
    for channel, name in CUT["channels"].items():
        if hasattr(editor, "channels"):  # from 3.3
            editor.channels[int(channel)].name = name
    show(scene)


main()
'''


def blender_text(cut: Cut, folder: Path) -> str:
    """The cut as the text of a script for Blender; the same cut gives the same text.

    Disabled clips are muted strips.

    Args:
        folder: where the script will lie; media is addressed from it.

    Raises:
        RequestError: the cut cannot be played, media has another rate than the cut, or there are
            more tracks than Blender has channels for.
    """
    cut.check()
    cut.check_one_rate()
    heard = cut.sound_tracks()
    lowest = 1 + len(heard) * _SOUND_ROWS  # channel of pictures
    channels = {lowest + index * _ROWS: track for index, track in enumerate(cut.tracks)}
    sound_channels = {
        lowest - number * _SOUND_ROWS: track for number, track in enumerate(heard.values(), 1)
    }
    if max(channels) + _ROWS - 1 > _MAX_CHANNELS:
        raise RequestError(
            f"The timeline has {len(cut.tracks)} tracks, {len(heard)} of them with sound; Blender "
            f"has {_MAX_CHANNELS} channels, {_ROWS} for pictures and {_SOUND_ROWS} for sound.",
            hint="Put the clips on fewer tracks.",
        )
    clips: list[dict[str, object]] = []
    dissolves: list[dict[str, object]] = []
    for channel, track in channels.items():
        _lay_out(track, channel, folder, clips, dissolves)
    fps = round(cut.rate)
    layout = {
        "name": cut.name,
        "fps": fps,
        "fps_base": float(fps / cut.rate),
        "width": cut.width,
        "height": cut.height,
        "num_frames": cut.num_frames,
        "clips": clips,
        "sound": [
            strip
            for channel, track in sound_channels.items()
            for strip in _sound(track, channel, folder)
        ],
        "dissolves": dissolves,
        "channels": {
            channel: track.name for channel, track in {**sound_channels, **channels}.items()
        },
        "markers": [{"frame": marker.frame, "text": marker.text} for marker in stack_markers(cut)],
    }
    title = cut.name.replace("\\", "/").replace('"', "'")
    return _SCRIPT.format(title=title, cut=repr(json.dumps(layout)))


def _lay_out(
    track: Track,
    channel: int,
    folder: Path,
    clips: list[dict[str, object]],
    dissolves: list[dict[str, object]],
) -> None:
    """Adds a track's strips; clips that dissolve overlap, in channels of their own."""
    row = 0
    playing = track.playing()
    for index, (at, item) in enumerate(playing.placed()):
        head, tail = playing.dissolves_at(index)
        if isinstance(item, Clip):
            row = 1 - row if head else 0
            before, after = (head.before_cut if head else 0), (tail.after_cut if tail else 0)
            clips.append(_strip(item, channel + row, at, before, after, folder))
        elif isinstance(item, Dissolve):
            dissolves.append(
                {
                    "at": at,
                    "num_frames": item.num_frames,
                    "channel": channel + _ROWS - 1,
                    "first": len(clips) - 1,
                    "second": len(clips),
                }
            )
    clips += _muted(track, channel, folder)


def _sound(track: Track, channel: int, folder: Path) -> Iterator[dict[str, object]]:
    """Strips of a track of sound; those that fade into each other in turn in its two channels."""
    row = 0
    playing = track.playing()
    for index, (at, item) in enumerate(playing.placed()):
        if isinstance(item, Clip):
            into, out_of = playing.dissolves_at(index)
            row = 1 - row if into else 0
            before, after = (into.before_cut if into else 0), (out_of.after_cut if out_of else 0)
            yield {
                **_strip(item, channel + row, at, before, after, folder),
                "fade_in": into.num_frames if into else 0,
                "fade_out": out_of.num_frames if out_of else 0,
            }
    for strip in _muted(track, channel, folder):
        yield {**strip, "fade_in": 0, "fade_out": 0}


def _muted(track: Track, channel: int, folder: Path) -> Iterator[dict[str, object]]:
    for at, item in track.placed():
        if isinstance(item, Clip) and not item.is_enabled:
            yield _strip(item, channel, at, 0, 0, folder)


def _strip(
    clip: Clip, channel: int, at: int, before: int, after: int, folder: Path
) -> dict[str, object]:
    """A clip with the frames before and after it that its dissolves need."""
    return {
        "name": clip.name,
        "path": resource(clip.media.path, folder),
        "channel": channel,
        "at": at - before,
        "start": clip.start - before,
        "num_frames": clip.num_frames + before + after,
        "is_enabled": clip.is_enabled,
    }
