"""Each rule of the fake, as a script meets it. The rules and their sources: resolve.md 6.2."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_resolve import TIERS, Host, Media, Switches, World, frame_of, prefs, wrapped
from fake_resolve.objects import MARKER_COLOURS
from fake_resolve.rates import RATES, Rate
from pythons import find

from freeswim.video.writer import write_video

PYTHONS = find()


class Script:
    """What a script holds of a world, with a clip in the pool."""

    def __init__(self, folder: Path, **of_world: Any) -> None:
        self.world = World(**of_world)
        self.resolve = wrapped(self.world, self.world.resolve)
        self.project = self.resolve.GetProjectManager().GetCurrentProject()
        self.pool = self.project.GetMediaPool()
        self.timeline = self.project.GetCurrentTimeline()
        self.path = self.world.add_media(folder / "koi.mov", Media(96, has_audio=True))
        (self.clip,) = self.pool.ImportMedia([self.path])

    def append(self, **changed: Any) -> Any:
        asked = {"mediaPoolItem": self.clip, "startFrame": 0, "endFrame": 24, "mediaType": 1}
        asked |= {"trackIndex": 1, "recordFrame": self.world.timeline.start, **changed}
        asked = {name: value for name, value in asked.items() if value is not None}
        return self.pool.AppendToTimeline([asked])

    @property
    def lengths(self) -> list[list[int]]:
        """Of the items of each video track."""
        return [[one.length for one in track.items] for track in self.world.timeline.video]


# ------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    "rate, start",
    [
        ("23.976", 86400),
        ("24", 86400),
        ("25", 90000),
        ("29.97", 108000),
        ("29.97 DF", 107892),
        ("30", 108000),
        ("50", 180000),
        ("59.94", 216000),
        ("59.94 DF", 215784),
        ("60", 216000),
    ],
)
def test_timeline_starts_where_its_rate_has_one_hour(rate: str, start: int, tmp_path: Path):
    assert Script(tmp_path, rate=rate).timeline.GetStartFrame() == start
    assert World(rate=rate, start_timecode="00:00:00:00").timeline.start == 0


@pytest.mark.parametrize("rate", RATES)
def test_timecode_counts_every_frame_once(rate: str):
    """Against counting, over the places where numbers are dropped."""
    one = Rate(rate)
    minute = one.frames("00:01:00;04" if one.drops else "00:01:00:00")
    assert minute is not None
    for around in (0, minute, minute * 10, minute * 60):
        said = [one.timecode(frame) for frame in range(max(0, around - 300), around + 300)]
        assert len(set(said)) == len(said) and said == sorted(said)
        assert [one.frames(words) for words in said] == list(
            range(max(0, around - 300), around + 300)
        )


def test_drop_frame_keeps_to_the_clock():
    rate = Rate("29.97 DF")
    assert rate.timecode(1799) == "00:00:59;29"
    assert rate.timecode(1800) == "00:01:00;02"
    assert rate.timecode(17982) == "00:10:00;00"
    assert rate.frames("00:01:00;00") is None
    hour = rate.frames("01:00:00;00")
    assert hour is not None and abs(hour / Fraction(30000, 1001) - 3600) < Fraction(1, 100)


def test_rates_are_words_and_numbers_only_from_21_1(tmp_path: Path):
    script = Script(tmp_path, tier="free 21.0", rate="29.97 DF")
    assert script.timeline.GetSetting("timelineFrameRate") == "29.97 DF"
    assert "GetSettings" not in dir(script.timeline)
    script = Script(tmp_path, tier="Studio 21.1", rate="23.976")
    assert script.timeline.GetSettings()["timelineFrameRate"] == 23.976


def test_timeline_may_have_another_rate_than_its_project(tmp_path: Path):
    script = Script(tmp_path, rate="50", project_rate="25")
    said = [one.GetSetting("timelineFrameRate") for one in (script.project, script.timeline)]
    assert said == ["25", "50"]


def test_playhead_is_absolute_and_not_on_every_page(tmp_path: Path):
    script = Script(tmp_path, rate="29.97 DF")
    assert script.timeline.GetCurrentTimecode() == "01:00:00;00"
    assert script.timeline.SetCurrentTimecode("01:00:01;00") is True
    assert script.world.timeline.playhead == 107892 + 30
    assert script.timeline.SetCurrentTimecode("00:59:59;00") is False  # before the start
    assert script.timeline.SetCurrentTimecode("01:00:01:00") is False  # no drop-frame timecode
    for page in ("media", "fusion", "photo"):
        script.world.page = page
        assert script.timeline.GetCurrentTimecode() is None
        assert script.timeline.SetCurrentTimecode("01:00:02;00") is False


# ------------------------------------------------------------------------------- what there is


@pytest.mark.parametrize(
    "kind, name, tier, before",
    [
        ("timeline", "GetSelectedClips", "free 21.1", "free 21.0"),
        ("timeline", "GetMarkInOut", "free 19.1", "free 19.0"),
        ("timeline", "GetSettings", "free 21.1", "free 21.0"),
        ("clip", "SetThirdPartyMetadata", "free 19.0", "Studio 18.5"),
        ("pool", "SetSelectedClip", "free 19.0", "Studio 18.5"),
        ("resolve", "IsStudio", "Studio 21.1", "Studio 20"),
    ],
)
def test_dir_is_true_to_the_version(kind: str, name: str, tier: str, before: str, tmp_path: Path):
    old, new = Script(tmp_path, tier=before), Script(tmp_path, tier=tier)
    if (kind, name) == ("timeline", "GetSelectedClips"):
        old.world.version = (21, 0, 3, 7)
    assert name in dir(getattr(new, kind))
    assert name not in dir(getattr(old, kind))


@pytest.mark.parametrize("fabricate", [False, True])
def test_hasattr_is_true_of_everything(fabricate: bool, tmp_path: Path):
    script = Script(tmp_path, switches=Switches(fabricate=fabricate))
    assert hasattr(script.timeline, "NoSuchMethod")
    assert callable(script.timeline.NoSuchMethod) is fabricate
    if fabricate:
        assert script.timeline.NoSuchMethod() is None
        assert script.world.misuses == ["Timeline has no NoSuchMethod in (20, 3, 2, 9)"]


def test_one_call_of_what_the_edition_lacks_spoils_every_later_one(tmp_path: Path):
    script = Script(tmp_path, tier="free 20.3")
    assert "TranscribeAudio" in dir(script.clip)
    assert script.clip.TranscribeAudio() is False
    assert script.timeline.GetName() is None
    assert script.timeline.AddTrack("video") is False
    assert len(script.world.misuses) == 1
    script.world.dismiss()
    assert script.timeline.GetName() == "Edit"
    studio = Script(tmp_path, tier="Studio 20")
    assert studio.clip.TranscribeAudio() is True
    assert studio.timeline.GetName() == "Edit"


@pytest.mark.parametrize("tier", TIERS)
def test_touching_the_ui_manager_on_free_spoils_it_from_19_1_on(tier: str):
    world = World(tier=tier)
    manager = wrapped(world, world.fusion).UIManager
    is_there = "Studio" in tier or tier == "free 19.0"
    assert (manager is not None) is is_there
    assert world.modal is not is_there


def test_nothing_raises_whatever_is_asked(tmp_path: Path):
    script = Script(tmp_path)
    assert script.timeline.GetTrackName("video") in ("", None)
    assert script.timeline.AddMarker("5", "Blue", "", "", 1) is False
    assert script.timeline.SetTrackName("video", True, "x") is False
    assert script.pool.AppendToTimeline({"mediaPoolItem": script.clip}) == []
    assert len(script.world.misuses) == 4


def test_resolve_that_quit_answers_nothing(tmp_path: Path):
    script = Script(tmp_path)
    script.world.quit()
    assert script.timeline.GetName() is script.resolve.GetProductName() is None


def test_wedged_resolve_has_no_database(tmp_path: Path):
    script = Script(tmp_path)
    script.world.is_wedged = True
    assert script.resolve.GetProjectManager().GetCurrentDatabase() is None


def test_handles_die_with_their_project_and_stay_truthy(tmp_path: Path):
    script = Script(tmp_path)
    kept = script.timeline.GetUniqueId()
    assert kept == script.timeline.GetUniqueId() != ""
    script.world.open_project("Another")
    assert bool(script.timeline)
    assert (script.timeline.GetUniqueId(), script.timeline.GetName()) == ("", None)
    assert script.resolve.GetProjectManager().GetCurrentProject().GetName() == "Another"


# ------------------------------------------------------------------------------- import


def test_import_goes_to_the_current_folder_alone(tmp_path: Path):
    script = Script(tmp_path)
    root = script.pool.GetRootFolder()
    inner = script.pool.AddSubFolder(root, "FreeSwim")
    assert script.pool.AddSubFolder(root, "FreeSwim") is None
    assert script.pool.GetCurrentFolder().GetName() == "Master"
    assert script.pool.SetCurrentFolder(inner)
    (again,) = script.pool.ImportMedia([script.path])
    assert [one.GetName() for one in inner.GetClipList()] == ["koi.mov"]
    assert again.GetUniqueId() != script.clip.GetUniqueId()  # a second one of the same file


def test_import_of_what_is_no_media_is_an_empty_list(tmp_path: Path):
    script = Script(tmp_path)
    (tmp_path / "words.txt").touch()
    assert script.pool.ImportMedia([str(tmp_path / "words.txt")]) == []
    assert script.pool.ImportMedia([str(tmp_path / "missing.mov")]) == []


@pytest.mark.parametrize(
    ("rate", "frames", "length"),
    [("24000/1001", 24, 24), ("24000/1001", 30, 24), ("24", 24, 23), ("24000/1001", 23, 23)],
    ids=["as it should be", "longer", "another rate", "too short"],
)
def test_file_is_placed_as_what_it_holds(rate: str, frames: int, length: int, tmp_path: Path):
    script = Script(tmp_path, rate="23.976")
    path = tmp_path / "take.mp4"
    write_video(
        path,
        [np.zeros((64, 64, 3), np.uint16)] * frames,
        width=64,
        height=64,
        frame_rate=Fraction(rate),
        num_frames=frames,
    )
    (clip,) = script.pool.ImportMedia([str(path)])
    assert clip.GetClipProperty("Frames") == str(frames)
    assert clip.GetClipProperty("Resolution") == "64x64"
    script.append(mediaPoolItem=clip)
    assert script.lengths == [[length]]


def test_sequence_comes_in_at_the_projects_rate(tmp_path: Path):
    script = Script(tmp_path, project_rate="25")
    for index in (1, 2, 3):
        (tmp_path / f"f_{index:03d}.exr").touch()
    asked = {"FilePath": str(tmp_path / "f_%03d.exr"), "StartIndex": 1, "EndIndex": 3}
    (clip,) = script.pool.ImportMedia([asked])
    assert (clip.GetClipProperty("FPS"), clip.GetClipProperty("Frames")) == (25.0, "3")
    assert clip.SetClipProperty("FPS", "24")
    assert clip.GetClipProperty("FPS") == 24.0
    assert script.pool.ImportMedia([{**asked, "EndIndex": 4}]) == []


def test_metadata_can_say_yes_and_not_persist(tmp_path: Path):
    script = Script(tmp_path, switches=Switches(metadata_sticks=False))
    assert script.clip.SetMetadata("Reel Name", "A") is True
    assert script.clip.GetMetadata("Reel Name") == ""


# ------------------------------------------------------------------------------- append


def test_record_frame_is_absolute_and_the_end_is_not_part(tmp_path: Path):
    script = Script(tmp_path)
    (item,) = script.append(recordFrame=86410)
    assert (item.GetStart(), item.GetEnd(), item.GetDuration()) == (86410, 86434, 24)
    assert item.GetMediaPoolItem().GetUniqueId() == script.clip.GetUniqueId()


def test_end_may_be_part_of_it(tmp_path: Path):
    script = Script(tmp_path, switches=Switches(inclusive_end=True))
    script.append()
    assert script.lengths == [[25]]


def test_record_frame_before_the_start_empties_the_timeline(tmp_path: Path):
    script = Script(tmp_path)
    assert script.append(recordFrame=0) == [None]
    assert script.timeline.GetEndFrame() == script.timeline.GetStartFrame()
    assert len(script.world.misuses) == 1


def test_without_a_record_frame_it_goes_to_the_end_of_all(tmp_path: Path):
    script = Script(tmp_path)
    script.timeline.AddTrack("video")
    script.append(recordFrame=86500)
    (item,) = script.append(recordFrame=None, trackIndex=2)
    assert item.GetStart() == 86524


@pytest.mark.parametrize("mode, answer", [("dropped", []), ("null_id", "dead"), ("none", [None])])
def test_earlier_one_wins(mode: str, answer: Any, tmp_path: Path):
    script = Script(tmp_path, switches=Switches(collision=mode))
    script.append()
    said = script.append(recordFrame=86423)
    if answer == "dead":
        assert (bool(said[0]), said[0].GetUniqueId(), said[0].GetStart()) == (True, "", None)
    else:
        assert said == answer
    assert script.lengths == [[24]]
    assert len(script.append(recordFrame=86424)) == 1


def test_locked_and_missing_tracks_give_dead_handles(tmp_path: Path):
    script = Script(tmp_path)
    for index in (0, 2):
        (item,) = script.append(trackIndex=index)
        assert item.GetUniqueId() == ""
    script.world.timeline.video[0].is_locked = True
    (item,) = script.append()
    assert (item.GetUniqueId(), item.GetStart()) == ("", None)
    assert script.lengths == [[]]
    assert script.world.misuses == []


def test_tracks_are_counted_from_one(tmp_path: Path):
    script = Script(tmp_path)
    assert script.timeline.GetItemListInTrack("video", 1) == []
    assert script.timeline.GetItemListInTrack("video", 0) is None
    assert script.timeline.GetItemListInTrack("video", 2) is None
    assert script.timeline.AddTrack("video") is True
    assert script.timeline.GetTrackCount("video") == 2
    assert script.project.GetTimelineByIndex(0) is None
    assert script.project.GetTimelineByIndex(1).GetName() == "Edit"


def test_other_rate_is_cut_off_to_fewer_frames(tmp_path: Path):
    script = Script(tmp_path, rate="25")
    script.append(recordFrame=90000, endFrame=81)
    assert script.lengths == [[84]]  # 84.375


def test_sound_comes_along_unless_pictures_alone_are_asked_for(tmp_path: Path):
    script = Script(tmp_path)
    script.append()
    assert script.world.timeline.audio[0].items == []
    script.append(mediaType=None, recordFrame=86500)
    assert len(script.world.timeline.audio[0].items) == 1


@pytest.mark.parametrize(
    "tier, needs", [("free 19.1", True), ("Studio 20", True), ("free 20.3", False)]
)
def test_before_20_3_2_something_must_be_selected(tier: str, needs: bool, tmp_path: Path):
    script = Script(tmp_path, tier=tier)
    assert (script.append() == []) is needs
    script.pool.SetSelectedClip(script.clip)
    assert len(script.append(recordFrame=86500)) == 1


def test_record_frame_may_be_a_float_from_19_0_2_on(tmp_path: Path):
    assert len(Script(tmp_path).append(recordFrame=86400.0)) == 1
    old = Script(tmp_path, tier="Studio 18.5")
    assert old.append(recordFrame=86400.0) == []
    assert old.world.misuses == ["recordFrame is a float only from 19.0.2 on"]


def test_what_an_errored_call_placed_is_gone_with_the_next_save(tmp_path: Path):
    script = Script(tmp_path, switches=Switches(append_errs=1))
    assert script.append() == [None]
    script.append(recordFrame=86500, endFrame=12)
    assert script.lengths == [[24, 12]]
    script.world.manager.save()
    assert script.lengths == [[12]]


def test_frames_are_floats_if_asked_for(tmp_path: Path):
    (item,) = Script(tmp_path).append()
    assert isinstance(item.GetStart(), int)
    assert isinstance(item.GetStart(True), float)


# ------------------------------------------------------------------------------- markers, takes


def test_markers_are_offsets_with_float_keys_one_a_frame(tmp_path: Path):
    script = Script(tmp_path)
    assert script.timeline.AddMarker(48, "Mint", "Koi", "in a pond", 1, "freeswim:1")
    assert script.timeline.AddMarker(48, "Blue", "", "", 1) is False
    (key,) = script.timeline.GetMarkers()
    assert isinstance(key, float) and key == 48
    assert script.timeline.AddMarker(86448, "Blue", "", "", 1) is False
    assert script.world.misuses == ["a marker at 86448: markers are counted from the start"]


def test_marker_colours_are_sixteen(tmp_path: Path):
    script = Script(tmp_path)
    assert len(MARKER_COLOURS) == 16
    for offset, colour in enumerate([*sorted(MARKER_COLOURS), "Orange", "blue"]):
        made = script.timeline.AddMarker(offset, colour, "", "", 1)
        assert made is (colour in MARKER_COLOURS)


def test_marker_is_known_by_its_custom_data(tmp_path: Path):
    script = Script(tmp_path)
    script.timeline.AddMarker(1, "Mint", "", "", 1, "freeswim:1")
    assert list(script.timeline.GetMarkerByCustomData("freeswim:1")) == [1.0]
    assert script.timeline.UpdateMarkerCustomData(1, "freeswim:2")
    assert not script.timeline.DeleteMarkerByCustomData("freeswim:1")
    assert script.timeline.DeleteMarkerByCustomData("freeswim:2")


def test_in_and_out_are_offsets_and_may_be_missing(tmp_path: Path):
    script = Script(tmp_path)
    assert script.timeline.GetMarkInOut() == {}
    script.world.timeline.mark = {"video": {"in": 0, "out": 134}}
    assert script.timeline.GetMarkInOut() == {"video": {"in": 0, "out": 134}}


def test_takes_are_counted_from_one_with_the_first_kept(tmp_path: Path):
    script = Script(tmp_path)
    (item,) = script.append()
    assert item.GetTakesCount() == 0
    assert item.AddTake(script.clip, 0, 24)
    assert (item.GetTakesCount(), item.SelectTakeByIndex(0)) == (2, False)
    assert item.SelectTakeByIndex(1)
    assert item.GetSelectedTakeIndex() == 1


def test_title_has_no_media(tmp_path: Path):
    script = Script(tmp_path)
    script.world.timeline.put(None, 1, 0, 24)  # type: ignore[arg-type]
    assert script.timeline.GetCurrentVideoItem().GetMediaPoolItem() is None


# ------------------------------------------------------------------------------- stills


def test_still_shows_the_frame_before_until_the_viewer_has_caught_up(tmp_path: Path):
    script = Script(tmp_path, switches=Switches(num_lagging_stills=1))
    path = tmp_path / "still.png"
    shown = []
    script.timeline.SetCurrentTimecode("01:00:01:00")
    for _ in range(2):
        assert script.project.ExportCurrentFrameAsStill(str(path))
        shown.append(frame_of(path))
    assert shown == [86400, 86424]


def test_still_can_fail_without_a_word(tmp_path: Path):
    script = Script(tmp_path, switches=Switches(stills_fail=True))
    assert script.project.ExportCurrentFrameAsStill(str(tmp_path / "still.png")) is False
    script.world.switches.stills_fail = False
    assert script.project.ExportCurrentFrameAsStill("still.png") is False
    assert script.project.ExportCurrentFrameAsStill(str(tmp_path / "still.unknown")) is False
    assert script.project.ExportCurrentFrameAsStill(str(tmp_path / "no" / "still.png")) is False


# ------------------------------------------------------------------------------- never


def test_clips_are_deleted_on_the_edit_page_alone(tmp_path: Path):
    script = Script(tmp_path)
    (item,) = script.append()
    script.world.page = "color"
    assert script.timeline.DeleteClips([item], False) is False
    script.world.page = "edit"
    assert script.timeline.DeleteClips([item], False) is True
    assert script.lengths == [[]]
    assert script.world.misuses == []


def test_what_is_the_editors_is_watched_over(tmp_path: Path):
    script = Script(tmp_path)
    theirs = script.world.timeline.put(script.world.film.pool.root.clips[0], 1, 0, 24)
    script.timeline.DeleteClips([wrapped(script.world, theirs)])
    script.timeline.AddMarker(1, "Red", "", "", 1, "another:1")
    script.timeline.DeleteMarkerByCustomData("another:1")
    script.pool.DeleteClips([script.clip])
    script.resolve.GetProjectManager().SaveProject()
    assert len(script.world.misuses) == 4


# ------------------------------------------------------------------------------- the mailbox's file


def test_prefs_are_written_to_the_profile_in_use_alone(tmp_path: Path):
    world = World(tier="free 21.1")
    world.profiles = [tmp_path / "Default", tmp_path / "Other"]
    for folder in world.profiles:
        folder.mkdir()
    prefs.path(world.profiles[1]).write_bytes(prefs.as_bytes({"Global.FreeSwim.Ack": "old"}))
    fusion = wrapped(world, world.fusion)
    assert fusion.SetPrefs("Global.FreeSwim.Ack", "17")
    assert not prefs.path(world.profiles[0]).exists()
    assert fusion.SavePrefs()
    content = prefs.path(world.profiles[0]).read_bytes()
    assert b'Ack = "17"' in content
    with pytest.raises(UnicodeDecodeError):
        content.decode("utf-8")  # an ANSI code page
    assert b'"old"' in prefs.path(world.profiles[1]).read_bytes()
    half = prefs.as_bytes(world.prefs, cut_at=0.5)
    assert content.startswith(half) and len(half) < len(content)


# ------------------------------------------------------------------------------- from a process

PROBE = """
import json, sys, threading
from DaVinciResolveScript import scriptapp, Remote
resolve = scriptapp("Resolve")
if resolve is None:
    print("none")
    sys.exit()
timeline = resolve.GetProjectManager().GetCurrentProject().GetCurrentTimeline()
timeline.AddMarker(5, "Blue", "Koi", "", 1)
(key,) = timeline.GetMarkers()
assert isinstance(key, float), key
assert isinstance(timeline.GetStartFrame(), int)
assert hasattr(timeline, "Anything") and timeline.Anything is None
assert "GetMarkers" in dir(timeline) and "Anything" not in dir(timeline)
assert timeline.GetItemListInTrack("video", 9) is None
print(timeline.GetName())
"""


def probe(host: Host, python: str) -> str:
    """What a foreign process gets."""
    asked = [python, "-c", PROBE]
    done = subprocess.run(asked, env=host.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("python", PYTHONS.values(), ids=PYTHONS)
def test_objects_are_the_same_from_every_python(python: str, tmp_path: Path):
    host = Host(World(tier="Studio 20"), tmp_path)
    try:
        assert probe(host, python) == "Edit"
        assert list(host.world.timeline.markers) == [5]
        assert host.world.misuses == []
    finally:
        host.close()


@pytest.mark.parametrize("tier", TIERS)
def test_free_edition_answers_nobody_from_outside(tier: str, tmp_path: Path):
    host = Host(World(tier=tier), tmp_path)
    try:
        assert probe(host, sys.executable) == ("Edit" if "Studio" in tier else "none")
    finally:
        host.close()
    assert probe(host, sys.executable) == "none"  # it does not run


def test_menu_script_has_its_globals_and_no_file(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "print(resolve.GetProductName(), fu is app, bmd.scriptapp('Resolve') is not None,"
        " '__file__' in globals())"
    )
    host = Host(World(), tmp_path)
    try:
        assert host.run(script, sys.executable).wait().strip() == "DaVinci Resolve True True False"
    finally:
        host.close()


def test_other_threads_get_nothing(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import threading\n"
        "thread = threading.Thread(target=lambda: print(resolve.GetProductName()))\n"
        "thread.start(); thread.join()\n"
    )
    host = Host(World(), tmp_path)
    try:
        assert host.run(script, sys.executable).wait().strip() == "None"
    finally:
        host.close()
    assert host.world.misuses == ["GetProductName is called from another thread"]


def test_call_that_hangs_comes_back_when_it_is_released(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text("print(resolve.GetVersionString())")
    host = Host(World(switches=Switches(hang_on="GetVersionString")), tmp_path)
    try:
        running = host.run(script, sys.executable)
        host.world.wait_until_it_hangs()
        assert running.is_running
        host.world.release()
        assert running.wait().strip() == "20.3.2.9"
    finally:
        host.close()
