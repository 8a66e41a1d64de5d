"""Every operation, against every tier: what is done, what is read back, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_resolve import TIERS, Media, Switches, World, frame_of, wrapped
from fake_resolve.rates import RATES

from resolve_plugin.freeswim_resolve import border, context, operations
from resolve_plugin.freeswim_resolve.operations import CannotDo

Json = dict[str, Any]


class Desk:
    """A Resolve, and operations for the project and the timeline that are open in it."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.border = border.Border(wrapped(world, world.resolve))

    @property
    def at(self) -> Json:
        return {"project": self.world.film.id, "timeline": self.world.timeline.id}

    @property
    def pool(self) -> Json:
        return {"project": self.at["project"], "bin": ["FreeSwim", "Koi"]}

    def do(self, name: str, /, **arguments: Any) -> Json:
        return operations.execute(self.border, name, arguments)

    def refused(self, name: str, /, **arguments: Any) -> CannotDo:
        with pytest.raises(CannotDo) as caught:
            self.do(name, **arguments)
        return caught.value

    def clip(self, frames: int = 96, rate: str = "24", name: str = "koi_v01.mov") -> Json:
        """A master, in its bin."""
        path = self.world.add_media(self.folder / name, Media(frames, rate))
        self.do("ensure_bin", **self.pool)
        return self.do("import", **self.pool, path=path)

    def place(self, clip: Json, **changed: Any) -> Json:
        return self.do("place", **self.where(clip, **changed))

    def where(self, clip: Json, **changed: Any) -> Json:
        spot = {"track": 1, "record_frame": 86400, "start_frame": 0, "end_frame": 96}
        return {**self.at, "bin": self.pool["bin"], "media": clip["id"], **spot, **changed}


MakeDesk = Callable[..., Desk]


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[MakeDesk]:
    worlds: list[World] = []

    def make(**of_world: Any) -> Desk:
        worlds.append(World(**of_world))
        return Desk(worlds[-1], tmp_path)

    yield make
    for world in worlds:
        assert world.misuses == []


@pytest.fixture(params=TIERS)
def desk(request: pytest.FixtureRequest, make_desk: MakeDesk) -> Desk:
    """One for every tier."""
    return make_desk(tier=request.param)


# ------------------------------------------------------------------------------- what is there


def test_hello_says_version_and_edition(desk: Desk):
    said = desk.do("hello")
    assert said["edition"] == ("studio" if desk.world.is_studio else "free")
    assert said["version"] == list(desk.world.version[:3])
    assert said["version_words"] == ".".join(map(str, desk.world.version))


def test_context_is_what_the_editor_looks_at(desk: Desk):
    clip = desk.clip()
    timeline = desk.world.timeline
    (media,) = desk.world.film.pool.root.folders[0].folders[0].clips
    shown = timeline.put(media, 1, 0, 48, start=12)
    timeline.put(media, 1, 100, 48)
    timeline.playhead = timeline.start + 10
    timeline.selection = [shown]
    timeline.mark = {"video": {"in": 3}}
    timeline.AddMarker(7.0, "Blue", "koi", "a koi in a pond", 1.0)

    said = desk.do("context")["timeline"]

    assert (said["rate"], said["playhead"], said["start_frame"]) == ("24", "01:00:00:10", 86400)
    current = said["current"]
    assert (current["start"], current["end"], current["left_offset"]) == (86400, 86448, 12)
    assert (current["track_type"], current["track"]) == ("video", 1)
    assert current["media"] == {name: clip[name] for name in clip if name != "is_new"}
    assert (current["source_start"] == 12) == (desk.world.version >= (19, 0, 2))
    knows_selection = desk.world.version >= (21, 0, 4)
    assert said["selection"] == ([current] if knows_selection else None)
    assert said["mark"] == ({"in": 3, "out": None} if desk.world.version >= (19, 1) else None)
    (marker,) = said["markers"]
    assert (marker["offset"], marker["note"]) == (7, "a koi in a pond")
    assert said["tracks"] == [
        {"index": 1, "name": "Video 1", "is_locked": False, "is_enabled": True}
    ]


@pytest.mark.parametrize("rate", RATES)
def test_rates_are_the_timelines_own_and_in_resolves_words(rate: str, make_desk: MakeDesk):
    desk = make_desk(rate=rate, project_rate="25")
    said = desk.do("context")
    assert (said["timeline"]["rate"], said["project"]["rate"]) == (rate, "25")
    assert said["timeline"]["drop_frame"] == str(int(rate.endswith("DF")))


def test_nothing_open_is_nothing(make_desk: MakeDesk):
    desk = make_desk()
    desk.world.film.timeline = None
    assert desk.do("context")["timeline"] is None
    desk.world.project = None
    assert desk.do("context") == {"page": "edit", "project": None, "timeline": None}
    assert context.brief(desk.border) == {"page": "edit", "project": "", "timeline": ""}


@pytest.mark.parametrize("page", ["media", "fusion", "photo"])
def test_page_without_a_playhead_has_none(page: str, make_desk: MakeDesk):
    desk = make_desk()
    desk.world.page = page
    assert desk.do("context")["timeline"]["playhead"] is None


def test_long_words_of_the_editor_stay_within_what_the_studio_takes(make_desk: MakeDesk):
    desk = make_desk()
    for offset in range(600):
        desk.world.timeline.AddMarker(float(offset), "Blue", "錦鯉" * 9000, "\ud800\0", 1.0)
    said = desk.do("context")["timeline"]
    assert 0 < len(said["markers"]) < 500
    assert said["markers_left_out"] == 600 - len(said["markers"])
    assert said["markers"][0]["note"] == "?"


def test_gap_lies_between_its_neighbours(desk: Desk):
    desk.clip()
    (media,) = desk.world.film.pool.root.folders[0].folders[0].clips
    for offset in (0, 24, 120, 300, 324):
        desk.world.timeline.put(media, 1, offset, 24)
    found = desk.do("readback", **desk.at, track=1, start=86460, end=86470)
    assert found["items"] == []
    assert (found["before"]["end"], found["after"]["start"]) == (86448, 86520)
    found = desk.do("readback", **desk.at, track=1, start=86448, end=86520)  # all of the gap
    assert found["items"] == []
    assert (found["before"]["end"], found["after"]["start"]) == (86448, 86520)
    found = desk.do("readback", **desk.at, track=1, start=86423, end=86521)
    assert [one["start"] for one in found["items"]] == [86400, 86424, 86520]
    assert found["before"] is None
    assert found["after"]["start"] == 86700


def test_long_track_is_searched_in_few_calls(make_desk: MakeDesk):
    desk = make_desk()
    desk.clip()
    (media,) = desk.world.film.pool.root.folders[0].folders[0].clips
    for number in range(2000):
        desk.world.timeline.put(media, 1, number * 10, 10)
    desk.world.calls.clear()
    desk.do("readback", **desk.at, track=1, start=90000, end=90010)
    assert len(desk.world.calls) < 100


# -------------------------------------------------------------------------------------- stills


def test_still_shows_the_playheads_frame(desk: Desk):
    desk.world.timeline.playhead = 86412
    path = desk.folder / "still.png"
    facts = desk.do("still", **desk.at, path=str(path), timecode="01:00:00:12")
    assert frame_of(path) == 86412
    assert (facts["width"], facts["height"], facts["is_fresh"]) == (1920, 1080, True)


def test_still_does_not_move_a_playhead_that_the_editor_has_moved(desk: Desk):
    desk.world.timeline.playhead = 86500
    path = str(desk.folder / "still.png")
    refusal = desk.refused("still", **desk.at, path=path, timecode="01:00:00:12")
    assert (refusal.code, refusal.facts) == ("playhead_moved", {"playhead": "01:00:04:04"})
    assert not Path(path).exists()


def test_still_waits_for_the_viewer_and_puts_the_playhead_back(make_desk: MakeDesk):
    desk = make_desk(switches=Switches(num_lagging_stills=3))
    desk.world.timeline.playhead = 86500
    path = desk.folder / "still.png"
    facts = desk.do("still", **desk.at, path=str(path), timecode="01:00:00:12", move=True)
    assert facts["is_fresh"]
    assert frame_of(path) == 86412
    assert desk.world.timeline.playhead == 86500


def test_still_that_never_comes_is_said_to_be_old(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(operations, "STILL_REST_S", 0)
    desk = make_desk(switches=Switches(num_lagging_stills=99))
    path = desk.folder / "still.png"
    facts = desk.do("still", **desk.at, path=str(path), timecode="01:00:00:12", move=True)
    assert not facts["is_fresh"]


def test_still_fails_in_words(make_desk: MakeDesk):
    desk = make_desk(switches=Switches(stills_fail=True))
    there = desk.folder / "there.png"
    there.write_bytes(b"the editor's")
    at = {**desk.at, "timecode": "01:00:00:00"}
    assert desk.refused("still", **at, path=str(there)).code == "exists"
    assert desk.refused("still", **at, path=str(desk.folder / "new.png")).code == "no_still"
    desk.world.page = "fusion"
    assert desk.refused("still", **at, path=str(desk.folder / "new.png")).code == "no_playhead"
    assert there.read_bytes() == b"the editor's"


# ----------------------------------------------------------------------------------- the pool


def test_bin_is_made_once_and_the_editors_stays_current(desk: Desk):
    pool = desk.world.film.pool
    first = desk.do("ensure_bin", **desk.pool)
    again = desk.do("ensure_bin", **desk.pool)
    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["bin"] == again["bin"] == pool.root.folders[0].folders[0].id
    assert pool.current is pool.root


def test_file_is_imported_once_and_into_its_bin(desk: Desk):
    first = desk.clip()
    again = desk.do("import", **desk.pool, path=first["file"])
    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["id"] == again["id"]
    pool = desk.world.film.pool
    assert [len(folder.clips) for folder in pool.folders()] == [0, 0, 1]
    assert pool.current is pool.root


def test_sequence_gets_the_rate_that_it_was_made_at(desk: Desk):
    desk.do("ensure_bin", **desk.pool)
    for index in range(1, 5):
        (desk.folder / f"koi_{index:04d}.exr").touch()
    path = str(desk.folder / "koi_%04d.exr")
    facts = desk.do("import", **desk.pool, path=path, first=1, last=4, rate="25")
    assert (facts["rate"], facts["frames"]) == ("25", "4")


def test_import_that_fails_is_no_success(make_desk: MakeDesk):
    desk = make_desk(switches=Switches(import_refuses=True))
    desk.do("ensure_bin", **desk.pool)
    words = desk.folder / "words.txt"
    words.touch()
    assert desk.refused("import", **desk.pool, path=str(words)).code == "not_imported"
    missing = str(desk.folder / "missing.mov")
    assert desk.refused("import", **desk.pool, path=missing).code == "no_file"
    elsewhere = {**desk.pool, "bin": ["Elsewhere"]}
    assert desk.refused("import", **elsewhere, path=str(words)).code == "no_bin"


def test_clip_says_where_it_comes_from(desk: Desk):
    clip = desk.clip()
    stored = desk.do("set_meta", **desk.pool, media=clip["id"], values={"freeswim.job": "0a1b"})
    (media,) = desk.world.film.pool.root.folders[0].folders[0].clips
    if desk.world.version >= (19, 0, 2):
        assert (stored["where"], media.third_party) == ("third_party", {"freeswim.job": "0a1b"})
    else:
        assert (stored["where"], media.metadata) == ("comments", {"Comments": "freeswim.job=0a1b"})


def test_comments_of_the_editor_stay(make_desk: MakeDesk):
    desk = make_desk(tier="Studio 18.5")
    clip = desk.clip()
    (media,) = desk.world.film.pool.root.folders[0].folders[0].clips
    media.metadata["Comments"] = "the best one"
    values = {"freeswim.job": "0a1b"}
    refusal = desk.refused("set_meta", **desk.pool, media=clip["id"], values=values)
    assert refusal.code == "comments_taken"
    assert media.metadata == {"Comments": "the best one"}


def test_only_our_clips_are_replaced(desk: Desk):
    clip = desk.clip(name="preview.mov")
    final = desk.world.add_media(desk.folder / "final.mov", Media(96))
    asked = {**desk.pool, "media": clip["id"], "path": final}
    assert desk.refused("replace_clip", **asked).code == "not_ours"
    desk.do("set_meta", **desk.pool, media=clip["id"], values={"freeswim.job": "0a1b"})
    assert desk.do("replace_clip", **asked)["file"] == final


def test_clip_is_found_where_the_editor_moved_it(desk: Desk):
    clip = desk.clip()
    pool = desk.world.film.pool
    ours = pool.root.folders[0].folders[0]
    pool.root.folders[0].name = "Renamed"
    pool.root.clips, ours.clips = ours.clips, []
    assert desk.place(clip)["item"]["media"]["id"] == clip["id"]
    pool.root.clips = []
    assert desk.refused("place", **desk.where(clip)).code == "no_media"


# --------------------------------------------------------------------------------------- place


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("start_timecode", ["01:00:00:00", "00:00:00:00", "09:59:58:00"])
def test_take_is_placed_to_the_frame_at_every_rate(
    rate: str, start_timecode: str, make_desk: MakeDesk
):
    desk = make_desk(rate=rate, start_timecode=start_timecode)
    clip = desk.clip(rate=rate.removesuffix(" DF"))
    frame = desk.world.timeline.start + 37
    placed = desk.place(clip, record_frame=frame)
    (item,) = desk.world.timeline.video[0].items
    assert (item.start, item.length, item.source) == (frame, 96, 0)
    assert placed["item"]["id"] == item.id
    assert (placed["was_there"], placed["end_correction"], placed["is_certain"]) == (False, 0, True)


def test_take_is_placed_on_every_tier(desk: Desk):
    clip = desk.clip()
    track = desk.do("add_track", **desk.at, name="FreeSwim")["track"]
    desk.place(clip, track=track)
    lower, upper = desk.world.timeline.video
    assert (lower.items, len(upper.items), upper.name) == ([], 1, "FreeSwim")
    assert desk.world.timeline.audio[0].items == []


def test_placing_twice_places_once(desk: Desk):
    clip = desk.clip()
    assert not desk.place(clip)["was_there"]
    assert desk.place(clip)["was_there"]
    assert len(desk.world.timeline.video[0].items) == 1


@pytest.mark.parametrize("has_neighbour", [False, True])
def test_end_that_is_part_of_it_is_found_by_reading_back(has_neighbour: bool, make_desk: MakeDesk):
    desk = make_desk(switches=Switches(inclusive_end=True))
    clip = desk.clip()
    if has_neighbour:
        other = desk.clip(name="other.mov")
        media = next(
            m for f in desk.world.film.pool.folders() for m in f.clips if m.id == other["id"]
        )
        desk.world.timeline.put(media, 1, 96, 24)
    placed = desk.place(clip)
    assert placed["end_correction"] == -1
    assert desk.world.timeline.video[0].items[0].length == 96
    assert len(desk.world.timeline.video[0].items) == 1 + has_neighbour


def test_wrong_length_stays_where_it_cannot_be_taken_back_and_is_told(make_desk: MakeDesk):
    desk = make_desk(switches=Switches(inclusive_end=True))
    clip = desk.clip()
    desk.world.page = "color"  # where DeleteClips does nothing
    refusal = desk.refused("place", **desk.where(clip))
    assert (refusal.code, refusal.facts["item"]["end"]) == ("wrong_length", 86400 + 97)


def test_other_rate_is_no_success(make_desk: MakeDesk):
    desk = make_desk(rate="25")
    clip = desk.clip(frames=81, rate="24")
    refusal = desk.refused("place", **desk.where(clip, record_frame=90000, end_frame=81))
    assert refusal.code == "wrong_length"
    assert desk.world.timeline.video[0].items == []


@pytest.mark.parametrize("collision", ["dropped", "null_id", "none"])
def test_nothing_is_placed_over_anything(collision: str, make_desk: MakeDesk):
    desk = make_desk(switches=Switches(collision=collision))
    clip = desk.clip()
    desk.clip(name="other.mov")
    media = desk.world.film.pool.root.folders[0].folders[0].clips[1]
    theirs = desk.world.timeline.put(media, 1, 95, 24)
    refusal = desk.refused("place", **desk.where(clip))
    assert (refusal.code, refusal.facts["items"][0]["id"]) == ("occupied", theirs.id)
    assert "AppendToTimeline" not in desk.world.names_called()


def test_another_clip_in_that_very_place_is_not_taken_for_ours(desk: Desk):
    clip = desk.clip()
    desk.clip(name="other.mov")
    media = desk.world.film.pool.root.folders[0].folders[0].clips[1]
    desk.world.timeline.put(media, 1, 0, 96)
    assert desk.refused("place", **desk.where(clip)).code == "occupied"


def test_track_that_is_locked_or_missing_is_said_to_be(desk: Desk):
    clip = desk.clip()
    assert desk.refused("place", **desk.where(clip, track=2)).code == "no_track"
    assert desk.refused("place", **desk.where(clip, track=0)).code == "no_track"
    desk.world.timeline.video[0].is_locked = True
    assert desk.refused("place", **desk.where(clip)).code == "track_locked"


def test_frame_before_the_timelines_start_is_refused(desk: Desk):
    clip = desk.clip()
    refusal = desk.refused("place", **desk.where(clip, record_frame=0))
    assert (refusal.code, refusal.facts) == ("before_start", {"start_frame": 86400})


def test_placement_that_may_not_last_is_said_to_be_uncertain(make_desk: MakeDesk):
    desk = make_desk(switches=Switches(append_errs=1))
    assert not desk.place(desk.clip())["is_certain"]
    desk.world.manager.save()
    assert desk.world.timeline.video[0].items == []


def test_append_that_places_nothing_is_no_success(make_desk: MakeDesk):
    desk = make_desk(switches=Switches(needs_selection=True), tier="Studio 18.5")
    assert desk.refused("place", **desk.where(desk.clip())).code == "not_placed"


def test_selection_of_the_editor_comes_back(make_desk: MakeDesk):
    desk = make_desk(tier="free 19.1")
    clip, other = desk.clip(), desk.clip(name="other.mov")
    pool = desk.world.film.pool
    theirs = next(m for f in pool.folders() for m in f.clips if m.id == other["id"])
    pool.selected = [theirs]
    desk.place(clip)
    assert pool.selected == [theirs]


def test_other_timeline_is_touched_only_if_it_may_be_shown(desk: Desk):
    clip = desk.clip()
    where = desk.where(clip)
    there = desk.world.timeline
    project = desk.world.film
    project.timeline = project.add_timeline("Another", "25")
    assert desk.refused("place", **where).code == "timeline_not_current"
    desk.do("place", **where, switch=True)
    assert project.timeline.name == "Another"
    assert len(there.video[0].items) == 1


def test_another_project_is_left_alone(desk: Desk):
    clip = desk.clip()
    where = desk.where(clip)
    desk.world.open_project("Another film")
    assert desk.refused("place", **where).code == "other_project"
    desk.world.project = None
    assert desk.refused("place", **where).code == "no_project"


def test_deleted_timeline_is_said_to_be_gone(desk: Desk):
    clip = desk.clip()
    where = desk.where(clip)
    project = desk.world.film
    project.timelines = [project.add_timeline("Another", "25")]
    project.timeline = project.timelines[0]
    assert desk.refused("place", **where).code == "no_timeline"


def test_track_that_is_not_added_is_no_success(make_desk: MakeDesk):
    desk = make_desk(switches=Switches(listens_to_add_track=False))
    assert desk.refused("add_track", **desk.at, name="FreeSwim").code == "no_track"


@pytest.mark.parametrize("select", [False, True])
def test_take_is_added_and_shown_only_if_wanted(select: bool, desk: Desk):
    clip = desk.clip()
    other = desk.clip(name="other.mov")
    media = next(m for f in desk.world.film.pool.folders() for m in f.clips if m.id == other["id"])
    item = desk.world.timeline.put(media, 1, 0, 48)
    spot = {"track": 1, "start": 86400, "item": item.id, "media": clip["id"]}
    spot |= {"start_frame": 0, "end_frame": 48, "select": select}
    facts = desk.do("add_take", **desk.at, bin=desk.pool["bin"], **spot)
    assert facts == {"takes": 2, "shown": 2 if select else 1}
    gone = {**spot, "item": "0" * 8}
    assert desk.refused("add_take", **desk.at, bin=desk.pool["bin"], **gone).code == "no_item"


# ------------------------------------------------------------------------------------- markers


def test_marker_is_found_where_the_editor_rippled_it(desk: Desk):
    words = {"name": "Koi", "custom_data": "freeswim:0a1b"}
    assert desk.do("add_marker", **desk.at, offset=48, **words)["is_new"]
    assert not desk.do("add_marker", **desk.at, offset=48, **words)["is_new"]
    markers = desk.world.timeline.markers
    markers[60] = markers.pop(48)
    found = desk.do("find_marker", **desk.at, custom_data="freeswim:0a1b")
    assert found["marker"]["offset"] == 60
    assert desk.do("delete_marker", **desk.at, custom_data="freeswim:0a1b")["is_gone"]
    assert markers == {}


def test_marker_of_the_editor_is_followed_and_left_as_it_was(desk: Desk):
    timeline = desk.world.timeline
    timeline.AddMarker(48.0, "Red", "koi", "a koi in a pond", 1.0)
    before = {k: dict(v) for k, v in timeline.markers.items()}
    facts = desk.do("add_marker", **desk.at, offset=48, custom_data="freeswim:0a1b")
    assert (facts["is_new"], facts["marker"]["note"]) == (False, "a koi in a pond")
    assert desk.do("find_marker", **desk.at, custom_data="freeswim:0a1b")["marker"]["offset"] == 48
    assert desk.do("delete_marker", **desk.at, custom_data="freeswim:0a1b")["is_gone"]
    assert timeline.markers == before


def test_marker_of_another_program_is_left_alone(desk: Desk):
    desk.world.timeline.AddMarker(48.0, "Red", "", "", 1.0, "another:1")
    refusal = desk.refused("add_marker", **desk.at, offset=48, custom_data="freeswim:0a1b")
    assert refusal.code == "marker_taken"
    asked = {**desk.at, "custom_data": "another:1"}
    assert desk.refused("delete_marker", **asked).code == "bad_arguments"
    assert len(desk.world.timeline.markers) == 1


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "name, changed",
    [
        ("place", {"record_frame": "86400"}),
        ("place", {"record_frame": 86400.0}),
        ("place", {"record_frame": True}),
        ("place", {"record_frame": -1}),
        ("place", {"media": None}),
        ("place", {"bin": "FreeSwim"}),
        ("place", {"and": "more"}),
        ("place", {"switch": 1}),
    ],
)
def test_arguments_of_another_kind_are_refused(name: str, changed: Json, make_desk: MakeDesk):
    desk = make_desk()
    asked = {**desk.where(desk.clip()), **changed}
    desk.world.calls.clear()
    assert desk.refused(name, **asked).code == "bad_arguments"
    assert desk.world.calls == []


@pytest.mark.parametrize("path", ["still.png", "/../etc/still.png", "", "/tmp/\0.png"])
def test_paths_are_absolute_and_plain(path: str, make_desk: MakeDesk):
    desk = make_desk()
    asked = {**desk.at, "timecode": "01:00:00:00", "path": path}
    assert desk.refused("still", **asked).code == "bad_arguments"


@pytest.mark.parametrize("name", ["delete_project", "SaveProject", "__class__", "", "run"])
def test_anything_else_is_no_operation(name: str, make_desk: MakeDesk):
    assert make_desk().refused(name).code == "unknown_operation"


def test_missing_arguments_are_refused(make_desk: MakeDesk):
    for name in operations.NAMES - {"hello", "context", "bye"}:
        assert make_desk().refused(name).code == "bad_arguments"


def test_resolve_before_18_5_is_too_old(make_desk: MakeDesk):
    desk = make_desk(switches=Switches(version_answer=[18, 1, 4, 9, ""]))
    assert desk.refused("ensure_bin", **desk.pool).code == "too_old"
    assert desk.do("hello")["version"] == [18, 1, 4]


@pytest.mark.parametrize("answer", [None, False, [], ["a", "b", "c"], "21.1"])
def test_version_that_is_not_said_is_the_oldest(answer: Any, make_desk: MakeDesk):
    desk = make_desk(switches=Switches(version_answer=answer))
    assert desk.border.version == border.OLDEST


def test_dialog_makes_every_operation_fail_in_words(desk: Desk):
    clip = desk.clip()
    asked = desk.where(clip)
    desk.world.modal = True
    assert desk.refused("place", **asked).code == "no_project"
    assert desk.do("context")["project"] is None
    desk.world.dismiss()
    assert desk.do("place", **asked)["item"]["start"] == 86400


@pytest.mark.parametrize("fabricate", [False, True])
def test_what_the_version_lacks_is_never_called(fabricate: bool, desk: Desk):
    """The fake writes every such call down; see `make_desk`."""
    desk.world.switches.fabricate = fabricate
    clip = desk.clip()
    desk.do("set_meta", **desk.pool, media=clip["id"], values={"freeswim.job": "0a1b"})
    desk.place(clip)
    desk.do("context")
    assert desk.world.misuses == []
    assert not desk.world.modal


@pytest.mark.parametrize("tier, is_listed", [("free 20.3", True), ("free 21.1", False)])
def test_method_needs_both_the_version_and_the_listing(
    tier: str, is_listed: bool, make_desk: MakeDesk
):
    """Method sets differ between patch releases, and names that are not there look callable."""

    class Timeline:
        def __dir__(self) -> list[str]:
            return ["GetName", *(["GetSelectedClips"] if is_listed else [])]

        def GetName(self) -> str:
            return "Edit"

        def GetSelectedClips(self) -> None:
            raise AssertionError("called all the same")

    thing = make_desk(tier=tier).border.thing("Timeline", Timeline())
    assert thing is not None
    assert not thing.can("GetSelectedClips")
    assert thing.ask("GetSelectedClips") is None
    assert thing.name == "Edit"


def test_every_method_that_may_be_called_is_there_and_everybodys():
    """The table of the border, against the fake's."""
    from fake_resolve import objects

    for kind, methods in border._SINCE.items():
        listed = dict(objects.rules(getattr(objects, kind)))
        for name, version in methods.items():
            assert name in listed, f"{kind}.{name}"
            assert listed[name].since <= version, f"{kind}.{name}"
            assert not listed[name].is_studio, f"{kind}.{name}"
