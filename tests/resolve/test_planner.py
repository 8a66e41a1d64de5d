"""A click inside Resolve -> shots with their places frozen; a take -> what is done there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswim.errors import RequestError
from freeswim.models.catalog import find_checkpoint
from freeswim.presets import load_preset
from freeswim.studio.job import Placing, PlacingState
from freeswim.studio.resolve.placer import codec_for
from freeswim.studio.resolve.placing import Delivery, clear_marker, place_take
from freeswim.studio.resolve.planner import (
    Ask,
    Facts,
    Place,
    ResolveSettings,
    Seen,
    ShotPlan,
    Verb,
    plan_shots,
    rate_of,
    read_note,
    uhd_size,
)

Json = dict[str, Any]

NTSC = Fraction(1000, 1001)
# Resolve's words, the exact rate, frames of an hour of its timecode.
RATES = [
    ("23.976", 24 * NTSC, 86400),
    ("24", Fraction(24), 86400),
    ("25", Fraction(25), 90000),
    ("29.97", 30 * NTSC, 108000),
    ("29.97 DF", 30 * NTSC, 107892),
    ("30", Fraction(30), 108000),
    ("50", Fraction(50), 180000),
    ("59.94", 60 * NTSC, 216000),
    ("59.94 DF", 60 * NTSC, 215784),
]
any_rate = st.sampled_from(RATES)
any_start = st.sampled_from([0, 1])  # hours
SETTINGS = ResolveSettings()
DEMO = ResolveSettings(preset="demo", size="preset")


def timecode(frame: int, nominal: int, dropped: int) -> str:
    """Counted one number after the other: the slow way, that cannot be wrong."""
    minutes, rest = 0, frame
    while True:
        length = 60 * nominal - (dropped if minutes % 10 else 0)
        if rest < length:
            break
        minutes, rest = minutes + 1, rest - length
    number = rest + (dropped if minutes % 10 else 0)
    mark = ";" if dropped else ":"
    hours, minute, second = minutes // 60, minutes % 60, number // nominal
    return f"{hours:02}:{minute:02}:{second:02}{mark}{number % nominal:02}"


def of_rate(rate: tuple[str, Fraction, int], hours: int, offset: int) -> tuple[int, str]:
    """(start frame, timecode at an offset) of a timeline."""
    words, exact, hour = rate
    start = hours * hour
    dropped = {30: 2, 60: 4}[round(exact)] if words.endswith("DF") else 0
    return start, timecode(start + offset, round(exact), dropped)


def seen(**timeline: Any) -> Seen:
    """An editor in front of a timeline of 24 frames per second that begins at one hour."""
    usual: Json = {
        "id": "timeline",
        "name": "Edit 3",
        "rate": "24",
        "drop_frame": "0",
        "width": "1920",
        "height": "1080",
        "start_frame": 86400,
        "end_frame": 86400 + 24 * 600,
        "start_timecode": "01:00:00:00",
        "playhead": "01:00:10:00",
        "mark": None,
        "tracks": [{"index": 1, "name": "Video 1", "is_locked": False, "is_enabled": True}],
        "current": None,
        "selection": None,
        "markers": [],
    }
    project = {"id": "project", "name": "Film", "rate": "24"}
    return Seen.model_validate({"page": "edit", "project": project, "timeline": usual | timeline})


def clip(start: int, end: int, **more: Any) -> Json:
    media = {
        "id": "media",
        "name": "pond.mov",
        "file": "/footage/pond.mov",
        "rate": "24",
        "frames": "1000",
        "resolution": "1920x1080",
    }
    return {
        "id": f"item {start}",
        "name": "pond.mov",
        "track_type": "video",
        "track": 1,
        "start": start,
        "end": end,
        "left_offset": 100,
        "source_start": 100,
        "media": media,
    } | more


def marker(offset: int, note: str = "koi in a pond", **more: Any) -> Json:
    return {
        "offset": offset,
        "duration": 1,
        "color": "Mint",
        "name": "Marker 1",
        "note": note,
        "custom_data": "",
    } | more


def plans(
    verb: Verb,
    what: Seen,
    settings: ResolveSettings = SETTINGS,
    answer: Callable[[Ask], Facts] | None = None,
) -> list[ShotPlan]:
    steps = plan_shots(verb, what, settings)
    facts: Facts | None = None
    while True:
        try:
            ask = next(steps) if facts is None else steps.send(facts)
        except StopIteration as end:
            return end.value
        assert answer is not None, f"nothing was to be asked: {ask}"
        facts = answer(ask)


def refusal(verb: Verb, what: Seen, **more: Any) -> str:
    with pytest.raises(RequestError) as caught:
        plans(verb, what, **more)
    return f"{caught.value.message} {caught.value.hint}"


# ----------------------------------------------------------------------------------- rates, time


@pytest.mark.parametrize("words, exact, hour", RATES)
def test_a_rate_is_exact(words: str, exact: Fraction, hour: int):
    assert rate_of(words) == (exact, words.endswith("DF"))


@pytest.mark.parametrize(
    "words, exact",
    [("23.976023976", 24 * NTSC), ("24.0", 24), ("29.970030", 30 * NTSC), ("59.9401", 60 * NTSC)],
)
def test_a_rate_may_be_a_number_as_from_21_1_on(words: str, exact: Fraction):
    assert rate_of(words) == (exact, False)


@pytest.mark.parametrize("words", ["", "16", "48", "120", "nan", "inf", "vingt-quatre"])
def test_a_rate_without_timecode_is_refused(words: str):
    with pytest.raises(RequestError, match="is none that timecode knows"):
        rate_of(words)


@given(any_rate, any_start, st.integers(0, 24 * 600 - 1))
def test_the_playhead_is_frozen_to_the_frame(
    rate: tuple[str, Fraction, int], hours: int, offset: int
):
    start, playhead = of_rate(rate, hours, offset)
    what = seen(rate=rate[0], start_frame=start, end_frame=start + 24 * 600, playhead=playhead)
    (plan,) = plans("generate_at_playhead", what)
    assert plan.place.record_frame == start + offset
    assert plan.place.offset == offset
    assert plan.place.exact_rate == rate[1]
    assert plan.place.timecode(plan.place.record_frame) == playhead


@given(
    any_rate, any_start, st.integers(0, 10**6), st.integers(2, 5000), st.sampled_from([8, 16, 24])
)
def test_a_take_lasts_at_least_as_long_as_its_place(
    rate: tuple[str, Fraction, int], hours: int, offset: int, length: int, model_rate: int
):
    """So that the master is cut to its frames, and holds none: exact for every pair of rates."""
    name = {8: "demo", 16: "wan21-1.3b-1080p", 24: "wan22-5b-1440p"}[model_rate]
    checkpoint = find_checkpoint(load_preset(name).defaults["checkpoint"])
    assert checkpoint.frame_rate == model_rate
    start, _ = of_rate(rate, hours, 0)
    what = seen(rate=rate[0], start_frame=start, markers=[marker(offset, duration=length)])
    settings = ResolveSettings(preset=name)
    (plan,) = plans("generate_from_markers", what, settings)
    frames = plan.request["frames"]
    assert plan.place.num_frames == length and plan.place.record_frame == start + offset
    assert frames / checkpoint.frame_rate >= length / rate[1]
    assert (frames - 1) / checkpoint.frame_rate < length / rate[1]


@given(any_rate, any_rate, any_start, st.integers(0, 500), st.integers(1, 400), st.integers(0, 48))
def test_a_clip_is_remade_from_the_frames_that_play(
    rate: tuple[str, Fraction, int],
    file_rate: tuple[str, Fraction, int],
    hours: int,
    source: int,
    length: int,
    handles: int,
):
    start, _ = of_rate(rate, hours, 0)
    there = clip(start + 40, start + 40 + length, source_start=source)
    there["media"] |= {"rate": file_rate[0].removesuffix(" DF"), "frames": "5000"}
    what = seen(rate=rate[0], start_frame=start, current=there, playhead=None)
    (plan,) = plans("regenerate_selection", what, ResolveSettings(handles=handles))
    place, request = plan.place, plan.request
    head, tail = place.handles
    assert (place.record_frame, place.num_frames) == (start + 40, length)
    if rate[1] == file_rate[1]:
        assert head == min(handles, source) and tail == handles
        assert request["clip_start"] == source - head
        assert request["frames"] == place.master_frames
    else:
        assert (head, tail) == (0, 0) and request["clip_start"] == source
        assert request["frames"] / file_rate[1] >= place.master_frames / rate[1]


def test_timecode_begins_again_at_midnight():
    day = 24 * 3600 * 24
    what = seen(
        start_frame=day - 240,
        end_frame=day + 2400,
        start_timecode="23:59:50:00",
        playhead="00:00:05:00",
    )
    (plan,) = plans("generate_at_playhead", what)
    assert plan.place.record_frame == day + 120


# --------------------------------------------------------------------------------------- the verbs


def test_generate_at_playhead_takes_prompt_and_length_from_the_marker_there():
    what = seen(markers=[marker(240, "a heron\nseed: 7\nstrength: 0.4", duration=48)])
    (plan,) = plans("generate_at_playhead", what)
    assert plan.request["prompt"] == "a heron" and plan.request["seed"] == 7
    assert plan.request["refine"] == {"strength": 0.4}
    assert plan.place.num_frames == 48 and not plan.needs_prompt


def test_generate_at_playhead_without_a_marker_waits_for_its_prompt():
    (plan,) = plans("generate_at_playhead", seen())
    assert plan.needs_prompt
    assert plan.place.num_frames == 5 * 24
    assert (plan.request["width"], plan.request["height"]) == (3840, 2160)


def test_in_and_out_around_the_playhead_are_the_length():
    (plan,) = plans("generate_at_playhead", seen(mark={"in": 200, "out": 299}))
    assert (plan.place.record_frame, plan.place.num_frames) == (86600, 100)
    (plan,) = plans("generate_at_playhead", seen(mark={"in": 0, "out": 99}))
    assert plan.place.record_frame == 86640  # the playhead is elsewhere


def test_a_place_is_all_that_is_known_at_the_click():
    (plan,) = plans("regenerate_selection", seen(selection=[clip(86500, 86600)]))
    assert Place.model_validate_json(plan.place.model_dump_json()) == plan.place
    assert plan.place == Place(
        project="project",
        project_name="Film",
        timeline="timeline",
        timeline_name="Edit 3",
        rate="24",
        is_drop_frame=False,
        start_frame=86400,
        record_frame=86500,
        num_frames=100,
        above_track=1,
        item="item 86500",
    )
    assert plan.request["clip"] == {"path": "/footage/pond.mov"}


def test_every_selected_clip_is_remade():
    what = seen(selection=[clip(86500, 86600), clip(86700, 86800)])
    assert [plan.place.record_frame for plan in plans("regenerate_selection", what)] == [
        86500,
        86700,
    ]


def test_sound_in_the_selection_is_passed_over():
    sound = clip(86500, 86600, track_type="audio", track=None)
    assert "is selected" in refusal("regenerate_selection", seen(selection=[sound]))


@pytest.mark.parametrize(
    "verb, what, words",
    [
        ("regenerate_selection", seen(), "No clip is selected, and none is under the playhead."),
        ("extend_clip", seen(), "No clip is selected, and none is under the playhead."),
        (
            "regenerate_selection",
            seen(current=clip(86500, 86600, media=None, name="Title")),
            "'Title' is no video file",
        ),
        ("generate_from_markers", seen(), "There is no Mint marker with a prompt"),
        ("generate_at_playhead", seen(playhead=None), "This page of Resolve has no playhead."),
        ("generate_at_playhead", seen(rate="48"), "The timeline's rate '48'"),
        ("generate_at_playhead", seen(start_frame=None), "close the window"),
        ("fill_gap", seen(tracks=[]), "The playhead is in no gap between two clips."),
    ],
)
def test_what_cannot_be_done_here_is_said_in_a_sentence(verb: Verb, what: Seen, words: str):
    assert words.lower() in refusal(verb, what).lower()


def test_a_window_that_blocks_resolve_is_named():
    """Behind a dialog every call of Resolve's fails: no project, no timeline."""
    words = refusal("generate_at_playhead", Seen())
    assert words == (
        "Resolve shows no project. Open one; if one is open, close the window that waits for you "
        "in Resolve."
    )


def test_markers_of_our_colour_that_nobody_follows_are_generated():
    what = seen(
        markers=[
            marker(0),
            marker(24, color="Blue"),
            marker(48, custom_data="freeswim-adopted:1"),
            marker(72, custom_data="somebody's"),
            marker(96, note="   "),
            marker(120, "a frog\ntakes: 3\nname: Frog", duration=50),
        ]
    )
    first, second = plans("generate_from_markers", what)
    assert first.place.offset == 0 and first.name == "koi in a pond" and first.takes == 1
    assert second.place.offset == 120 and second.name == "Frog" and second.takes == 3


def test_a_wrong_marker_is_named_by_its_timecode():
    what = seen(markers=[marker(0), marker(25, "koi\nstepz: 7")])
    words = refusal("generate_from_markers", what)
    assert words.startswith("The marker at 01:00:01:01: A marker's note has no field 'stepz'.")
    assert "seed" in words and "strength" in words


def test_a_clip_is_extended_from_its_last_frame():
    (plan,) = plans("extend_clip", seen(current=clip(86500, 86600)))
    (picture,) = plan.pictures
    assert plan.request["kind"] == "image"
    assert plan.place.record_frame == 86600
    assert (picture.field, picture.file, picture.frame) == (
        "first_image",
        "/footage/pond.mov",
        100 + 99,
    )
    assert picture.timecode == "01:00:08:07" and not picture.is_at_playhead
    assert find_checkpoint(plan.request["checkpoint"]).takes_image


def test_a_gap_is_filled_from_the_frames_around_it():
    asked: list[Ask] = []

    def answer(ask: Ask) -> Facts:
        asked.append(ask)
        if ask.arguments["track"] == 1:
            return Facts({"items": [clip(86000, 87000)], "before": None, "after": None})
        before, after = clip(86500, 86600), clip(86700, 86800)
        return Facts({"items": [], "before": before, "after": after})

    tracks = [{"index": 1}, {"index": 2}]
    (plan,) = plans("fill_gap", seen(tracks=tracks), answer=answer)
    assert [ask.arguments["track"] for ask in asked] == [1, 2]
    assert (plan.place.record_frame, plan.place.num_frames) == (86600, 100)
    assert plan.place.above_track == 2
    first, last = plan.pictures
    assert (first.field, first.frame, last.field, last.frame) == (
        "first_image",
        199,
        "last_image",
        100,
    )
    assert find_checkpoint(plan.request["checkpoint"]).takes_last_image


def test_the_frame_at_the_playhead_is_taken_as_the_editor_sees_it():
    settings = ResolveSettings(preset="wan22-5b-1440p")
    what = seen(markers=[marker(240, "koi\ncheckpoint: wan2.1-i2v-14b-720p")])
    (plan,) = plans("generate_at_playhead", what, settings)
    (picture,) = plan.pictures
    assert picture.is_at_playhead and picture.timecode == "01:00:10:00"


# ------------------------------------------------------------------------------------ notes, sizes


def test_a_note_is_a_prompt_with_settings():
    note = read_note(
        "A koi: slow, golden.\nseed: 12\nwidth: 1920\nheight: 1080\nrefine.strength: 0.5\n"
        "base.steps: 20\nnegative_prompt: 7 legs\npreset: demo\nhandles: 4\nIn rain."
    )
    assert note.prompt == "A koi: slow, golden.\nIn rain."
    assert note.changes == {
        "seed": 12,
        "width": 1920,
        "height": 1080,
        "refine": {"strength": 0.5},
        "base": {"steps": 20},
        "negative_prompt": "7 legs",
    }
    assert note.preset == "demo" and note.handles == 4


@pytest.mark.parametrize(
    "line, words",
    [
        ("frames: 20", "no field 'frames'"),
        ("kind: clip", "no field 'kind'"),
        ("clip: /etc/passwd", "no field 'clip'"),
        ("loras: x", "no field 'loras'"),
        ("takes: 99", "takes: 99"),
        ("takes: none", "takes: none"),
        ("seed: [1, 2]", "is no plain value"),
        ("seed: !!python/object/apply:os.system [x]", "seed"),
    ],
)
def test_a_note_that_cannot_be_is_refused(line: str, words: str):
    try:
        note = read_note(f"koi\n{line}")
    except RequestError as error:
        assert words in error.message
    else:  # a string; the request's own check refuses it
        assert isinstance(note.changes["seed"], str)


@given(st.text(max_size=300))
def test_no_note_breaks_the_reader(text: str):
    try:
        note = read_note(text)
    except RequestError as error:
        assert error.message and error.hint
    else:
        assert len(note.prompt) <= len(text)


@pytest.mark.parametrize(
    "resolution, size",
    [
        ("1920x1080", (3840, 2160)),
        ("3840x2160", (3840, 2160)),
        ("4096x2160", (3840, 2024)),
        ("1080x1920", (2160, 3840)),
        ("1440x1080", (2880, 2160)),
        ("2048x858", (3840, 1608)),
        ("", (3840, 2160)),
        ("no idea", (3840, 2160)),
    ],
)
def test_a_shot_is_as_large_as_uhd_allows(resolution: str, size: tuple[int, int]):
    assert uhd_size(resolution) == size


@pytest.mark.parametrize(
    "platform, size, codec",
    [
        ("darwin", (3840, 2160), "prores-hq"),
        ("linux", (3840, 2160), "dnxhr-hqx"),
        ("win32", (3840, 2160), "dnxhr-hqx"),
        ("linux", (128, 96), "prores-hq"),
        ("linux", (1921, 1080), "prores-4444"),
    ],
)
def test_a_master_is_what_resolve_reads_there(platform: str, size: tuple[int, int], codec: str):
    assert codec_for(platform, *size) == codec


# ------------------------------------------------------------------------ a take -> what is done


class Timeline:
    """Answers operations as an executor does; what is on its tracks is looked at afterwards."""

    def __init__(self, **what: Any) -> None:
        self.seen = seen(**what)
        self.asked: list[Ask] = []
        self.marker: Json | None = None
        self.tracks: dict[int, list[Json]] = {1: []}
        self.errors: dict[str, str] = {}  # by operation
        self.is_certain = True
        self.shift = 0  # frames by which what is placed is beside its place

    def answer(self, ask: Ask) -> Facts:
        self.asked.append(ask)
        if code := self.errors.get(ask.name):
            return Facts({}, code)
        name = "bring_in" if ask.name == "import" else ask.name
        return Facts(getattr(self, name)(ask.arguments))

    def bring_in(self, asked: Mapping[str, Any]) -> Json:
        return {"id": f"media of {asked['path']}", "file": asked["path"]}

    def context(self, _: Mapping[str, Any]) -> Json:
        return self.seen.model_dump(by_alias=True)

    def find_marker(self, _: Mapping[str, Any]) -> Json:
        return {"marker": self.marker}

    def delete_marker(self, _: Mapping[str, Any]) -> Json:
        self.marker = None
        return {"is_gone": True}

    def ensure_bin(self, _: Mapping[str, Any]) -> Json:
        return {"bin": "bin", "is_new": False}

    def set_meta(self, _: Mapping[str, Any]) -> Json:
        return {}

    def readback(self, asked: Mapping[str, Any]) -> Json:
        there = [
            one
            for one in self.tracks[asked["track"]]
            if one["start"] < asked["end"] and one["end"] > asked["start"]
        ]
        return {"items": there, "before": None, "after": None}

    def add_track(self, asked: Mapping[str, Any]) -> Json:
        index = max(self.tracks) + 1
        self.tracks[index] = []
        return {"track": index, "name": asked["name"]}

    def place(self, asked: Mapping[str, Any]) -> Json:
        start = asked["record_frame"] + self.shift
        item = {
            "id": f"item {len(self.asked)}",
            "track": asked["track"],
            "start": start,
            "end": start + asked["end_frame"] - asked["start_frame"],
            "media": {"id": asked["media"]},
        }
        self.tracks[asked["track"]].append(item)
        return {"item": item, "is_certain": self.is_certain}

    def add_take(self, _: Mapping[str, Any]) -> Json:
        return {"takes": 2, "shown": 1}


PLACE = Place(
    project="project",
    project_name="Film",
    timeline="timeline",
    timeline_name="Edit 3",
    rate="24",
    is_drop_frame=False,
    start_frame=86400,
    record_frame=86500,
    num_frames=100,
    is_marked=True,
)


def told(timeline: Timeline, place: Place = PLACE, beside: Placing | None = None) -> Placing:
    """What is said in the end."""
    delivery = Delivery("take", "job", "shot", "Koi", 1, "/takes/koi.mov", place, beside)
    story = place_take(delivery)
    facts: Facts | None = None
    while True:
        try:
            ask = next(story) if facts is None else story.send(facts)
        except StopIteration as end:
            return end.value
        facts = timeline.answer(ask)


def cleared(timeline: Timeline) -> None:
    """After the outcome was stored."""
    steps = clear_marker("shot", PLACE)
    facts: Facts | None = None
    while True:
        try:
            ask = next(steps) if facts is None else steps.send(facts)
        except StopIteration:
            return
        facts = timeline.answer(ask)


def at(offset: int) -> Json:
    return marker(offset, custom_data="freeswim:shot")


@given(
    any_rate,
    any_start,
    st.integers(0, 20000),
    st.integers(1, 3000),
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
    st.integers(-20000, 20000),
)
def test_a_take_lands_where_its_marker_is(
    rate: tuple[str, Fraction, int],
    hours: int,
    offset: int,
    length: int,
    handles: tuple[int, int],
    moved: int,
):
    """To the frame, for every rate and start, wherever the marker went meanwhile."""
    start, _ = of_rate(rate, hours, 0)
    now = max(0, offset + moved)
    timeline = Timeline(rate=rate[0], start_frame=start)
    timeline.marker = at(now)
    place = PLACE.model_copy(
        update={
            "rate": str(rate[1]),
            "start_frame": start,
            "record_frame": start + offset,
            "num_frames": length,
            "handles": handles,
        }
    )
    placing = told(timeline, place)
    assert placing.state == PlacingState.PLACED
    assert placing.record_frame == start + now and placing.track == 2
    (item,) = timeline.tracks[2]
    assert (item["start"], item["end"]) == (start + now, start + now + length)
    (asked,) = [ask.arguments for ask in timeline.asked if ask.name == "place"]
    assert (asked["start_frame"], asked["end_frame"]) == (handles[0], handles[0] + length)
    assert ("has moved" in placing.message) == (now != offset)


def test_a_take_is_placed_and_its_marker_gone():
    timeline = Timeline()
    timeline.marker = at(100)
    assert told(timeline).message == "On V2 at 01:00:04:04."
    cleared(timeline)
    assert timeline.marker is None
    assert timeline.tracks[1] == []  # nothing of the editor's was touched


def test_a_marker_of_the_editors_own_stays():
    timeline = Timeline()
    timeline.marker = marker(100, custom_data="freeswim-adopted:shot")
    told(timeline)
    cleared(timeline)
    assert timeline.marker is not None


def test_a_moved_marker_takes_the_take_along():
    timeline = Timeline()
    timeline.marker = at(148)
    assert told(timeline).message == (
        "On V2 at 01:00:06:04, where its marker has moved to from 01:00:04:04."
    )


def test_after_its_marker_was_deleted_a_take_goes_to_the_pool_only():
    timeline = Timeline()
    placing = told(timeline)
    assert placing.state == PlacingState.POOL
    assert placing.message == (
        "In the media pool only, in the bin 'FreeSwim': its marker, at 01:00:04:04, was deleted."
    )
    assert timeline.tracks == {1: []}
    assert "import" in [ask.name for ask in timeline.asked]


def test_after_the_timeline_was_deleted_a_take_goes_to_the_pool_only():
    timeline = Timeline()
    timeline.errors["find_marker"] = "no_timeline"
    placing = told(timeline)
    assert placing.state == PlacingState.POOL
    assert placing.message == (
        "In the media pool only, in the bin 'FreeSwim': "
        "the timeline 'Edit 3' is not in the project any more."
    )


def test_a_renamed_timeline_is_the_same():
    timeline = Timeline(name="Edit 3 final FINAL")
    timeline.marker = at(100)
    assert told(timeline).state == PlacingState.PLACED


def test_a_timeline_whose_timecode_was_changed_keeps_its_frames():
    timeline = Timeline(start_frame=0, playhead="00:00:00:00")
    timeline.marker = at(100)
    placing = told(timeline)
    assert placing.record_frame == 100


def test_without_a_marker_the_frozen_frame_holds():
    timeline = Timeline()
    placing = told(timeline, PLACE.model_copy(update={"is_marked": False}))
    assert (placing.state, placing.record_frame) == (PlacingState.PLACED, 86500)


def test_another_project_is_waited_for():
    timeline = Timeline()
    timeline.seen = timeline.seen.model_copy(
        update={"project": timeline.seen.project.model_copy(update={"id": "other"})}
    )
    placing = told(timeline)
    assert placing.state == PlacingState.WAITING
    assert placing.message == (
        "Another project is open in Resolve. Open 'Film', and the take is put on its timeline."
    )
    assert [ask.name for ask in timeline.asked] == ["context"]


def test_another_timeline_is_waited_for():
    timeline = Timeline(id="other")
    timeline.marker = at(100)
    placing = told(timeline)
    assert placing.message == "Go to the timeline 'Edit 3', and the take is put on it."
    assert placing.state == PlacingState.WAITING
    assert {ask.name for ask in timeline.asked} == {"context", "find_marker"}


def test_a_window_in_resolve_is_named_and_waited_for():
    timeline = Timeline()
    timeline.seen = Seen()
    placing = told(timeline)
    assert placing.state == PlacingState.WAITING
    assert placing.message == (
        "Resolve shows no project: open one, or close the window that waits for you in Resolve."
    )


@pytest.mark.parametrize(
    "operation", ["context", "find_marker", "ensure_bin", "import", "readback", "place"]
)
def test_a_resolve_that_does_not_answer_is_waited_for(operation: str):
    timeline = Timeline(tracks=[{"index": 2, "name": "FreeSwim"}])
    timeline.tracks[2] = []
    timeline.marker = at(100)
    timeline.errors[operation] = "lost"
    placing = told(timeline)
    assert placing.state == PlacingState.WAITING
    assert placing.message == (
        "Resolve does not answer: close the window that waits for you in Resolve, or start "
        "FreeSwim in it again."
    )


def test_our_track_is_used_again_where_it_is_free():
    timeline = Timeline(tracks=[{"index": 1}, {"index": 2, "name": "FreeSwim"}])
    timeline.marker = at(100)
    timeline.tracks[2] = [clip(86400, 86500), clip(86600, 86700)]
    assert told(timeline).track == 2
    assert len(timeline.tracks[2]) == 3 and 3 not in timeline.tracks


def test_nothing_is_overwritten():
    timeline = Timeline(tracks=[{"index": 1}, {"index": 2, "name": "FreeSwim"}])
    timeline.marker = at(100)
    taken = clip(86599, 86700)
    timeline.tracks[2] = [taken]
    placing = told(timeline)
    assert placing.track == 3 and timeline.tracks[2] == [taken]
    (added,) = [ask.arguments["name"] for ask in timeline.asked if ask.name == "add_track"]
    assert added == "FreeSwim 2"


def test_a_locked_track_of_ours_is_left_alone():
    timeline = Timeline(tracks=[{"index": 1}, {"index": 2, "name": "FreeSwim", "is_locked": True}])
    timeline.tracks[2] = []
    timeline.marker = at(100)
    assert told(timeline).track == 3


def test_without_a_new_track_the_first_free_one_above_is_taken():
    tracks = [{"index": index} for index in (1, 2, 3)]
    timeline = Timeline(tracks=tracks)
    timeline.tracks |= {2: [clip(86400, 90000)], 3: []}
    timeline.marker = at(100)
    timeline.errors["add_track"] = "no_track"
    assert told(timeline, PLACE.model_copy(update={"above_track": 1})).track == 3


def test_without_any_free_track_a_take_goes_to_the_pool_only():
    timeline = Timeline()
    timeline.tracks[1] = [clip(86400, 90000)]
    timeline.marker = at(100)
    timeline.errors["add_track"] = "no_track"
    assert told(timeline).message == (
        "In the media pool only, in the bin 'FreeSwim': no track is free there, and Resolve adds "
        "none."
    )


def test_a_dropped_placement_is_corrected_once_and_then_said():
    """Resolve answers as if all were well, and has placed nothing."""
    timeline = Timeline()
    timeline.marker = at(100)
    timeline.errors["place"] = "not_placed"
    placing = told(timeline)
    assert placing.state == PlacingState.POOL
    assert placing.message == (
        "In the media pool only, in the bin 'FreeSwim': Resolve answered, and placed nothing."
    )
    assert [ask.name for ask in timeline.asked].count("place") == 2


def test_what_stands_elsewhere_than_asked_is_not_called_placed():
    timeline = Timeline()
    timeline.shift = 1
    timeline.marker = at(100)
    placing = told(timeline)
    assert placing.state == PlacingState.POOL
    assert "Resolve placed it otherwise than it was asked to" in placing.message


def test_a_placement_that_resolve_doubts_is_read_back_and_said():
    timeline = Timeline()
    timeline.is_certain = False
    timeline.marker = at(100)
    placing = told(timeline)
    assert placing.state == PlacingState.PLACED
    assert placing.message.endswith(
        "Resolve was not sure of it: save the project, and look whether it is there."
    )
    assert [ask.name for ask in timeline.asked].count("readback") >= 1


def test_as_a_take_of_the_original_clip_where_asked():
    timeline = Timeline()
    timeline.marker = at(100)
    place = PLACE.model_copy(update={"as_take": True, "item": "original", "above_track": 1})
    placing = told(timeline, place)
    assert placing.message == "In the take selector of the clip at 01:00:04:04 on V1."
    (asked,) = [ask for ask in timeline.asked if ask.name == "add_take"]
    assert asked.arguments["item"] == "original" and not asked.arguments["select"]
    assert asked.is_once


def test_a_take_of_a_clip_that_is_gone_gets_a_place_of_its_own():
    timeline = Timeline()
    timeline.marker = at(100)
    timeline.errors["add_take"] = "no_item"
    place = PLACE.model_copy(update={"as_take": True, "item": "original", "above_track": 1})
    assert told(timeline, place).track == 2


def test_further_takes_of_a_shot_go_beside_the_first():
    timeline = Timeline()
    timeline.marker = at(100)
    first = told(timeline)
    cleared(timeline)
    second = told(timeline, beside=first)
    assert second.item == first.item and second.track == first.track
    assert "take selector" in second.message


def test_a_take_whose_neighbour_is_gone_goes_to_the_pool_only():
    timeline = Timeline()
    timeline.errors["add_take"] = "no_item"
    before = Placing(state=PlacingState.PLACED, track=2, record_frame=86500, item="gone")
    placing = told(timeline, beside=before)
    assert placing.message.endswith("the take beside which it belongs is not there any more.")


def test_a_take_that_may_have_been_added_is_not_added_again():
    timeline = Timeline()
    timeline.marker = at(100)
    timeline.errors["add_take"] = "twice"
    place = PLACE.model_copy(update={"as_take": True, "item": "original", "above_track": 1})
    placing = told(timeline, place)
    assert placing.state == PlacingState.POOL
    assert "does not add it twice; look into the clip's take selector" in placing.message


@pytest.mark.parametrize(
    "operation, code, words",
    [
        ("import", "not_imported", "Resolve cannot read koi.mov. Import it by hand to see why."),
        ("import", "no_file", "koi.mov is not there any more. Export the take again."),
        ("ensure_bin", "no_bin", "Resolve makes no bin 'FreeSwim' in this project."),
        ("find_marker", "too_old", "This Resolve is older than 18.5"),
        ("place", "plugin_error", "Resolve did not do it (plugin_error). The file is koi.mov."),
    ],
)
def test_what_cannot_be_done_at_all_is_said(operation: str, code: str, words: str):
    timeline = Timeline()
    timeline.marker = at(100)
    timeline.errors[operation] = code
    placing = told(timeline)
    assert placing.state == PlacingState.FAILED and placing.message.startswith(words)


@given(st.lists(st.sampled_from(["import", "place", "add_track", "readback", "find_marker"])))
def test_a_story_that_is_told_again_ends_the_same(interrupted_at: list[str]):
    """The daemon died in the middle, however often: nothing is on the timeline twice."""
    timeline = Timeline()
    timeline.marker = at(100)
    for name in interrupted_at:
        timeline.errors = {name: "lost"}
        told(timeline)
        _name_tracks(timeline)
    timeline.errors = {}
    told(timeline)
    clips = [item for items in timeline.tracks.values() for item in items]
    assert {(one["start"], one["media"]["id"]) for one in clips} == {
        (86500, "media of /takes/koi.mov")
    }


def _name_tracks(timeline: Timeline) -> None:
    """What was added shows in the next snapshot."""
    shown = [{"index": index, "name": "FreeSwim" if index > 1 else ""} for index in timeline.tracks]
    timeline.seen = seen(tracks=shown)
