"""What is said of Resolve, its shots and their takes, in every state there is."""

from __future__ import annotations

from typing import Any

import pytest

try:
    from PySide6.QtWidgets import QWidget  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from pond import a_take

from desktop import theme
from desktop.resolve.words import (
    VERBS,
    ago_words,
    can_be_placed,
    count_to_place,
    installed_words,
    length_words,
    needs_prompt,
    obstacle,
    placed,
    product_words,
    spot_of,
    spot_words,
    status_words,
    timeline_words,
    wish_of,
)
from freeswim.studio.job import Placing, PlacingState, Shot
from freeswim.studio.resolve.links import LinkNow, WhereNow
from freeswim.studio.resolve.placer import ResolveNow
from freeswim.studio.resolve.planner import ResolveSettings, Verb

PLACE = {
    "project": "p",
    "project_name": "Harbor",
    "timeline": "t",
    "timeline_name": "Reel 2",
    "rate": "30000/1001",
    "is_drop_frame": True,
    "start_frame": 107892,
    "record_frame": 107892 + 1800,
    "num_frames": 60,
}


def a_where(**fields: Any) -> WhereNow:
    said = {
        "page": "edit",
        "project": "p",
        "project_name": "Harbor",
        "timeline": "t",
        "timeline_name": "Reel 2",
        "rate": "24000/1001",
        "is_drop_frame": False,
        "start_timecode": "01:00:00:00",
    }
    return WhereNow.model_validate(said | fields)


def a_link(where: WhereNow | None = None, **fields: Any) -> LinkNow:
    said = {
        "product": "DaVinci Resolve",
        "version": "20.3.2.9",
        "edition": "free",
        "transport": "http",
        "is_owner": True,
        "page": "edit",
        "project": "p",
        "timeline": "t",
        "where": where,
        "seconds_silent": 0.0,
        "busy_seconds": 0.0,
    }
    return LinkNow.model_validate(said | fields)


def a_now(*links: LinkNow, state: str = "connected", message: str = "") -> ResolveNow:
    return ResolveNow.model_validate(
        {
            "state": state,
            "message": message,
            "links": links,
            "settings": ResolveSettings(),
            "wishes": [],
            "news": [],
        }
    )


def a_shot(**placement: Any) -> Shot:
    return Shot(id="a" * 16, name="Shot", created_at=0.0, seq=1, placement=placement)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "DaVinci Resolve 20.3.2.9, free: Python plugin"),
        (
            {"version": "21.1.0.17", "transport": "mailbox"},
            "DaVinci Resolve 21.1.0.17, free: Lua script",
        ),
        (
            {"product": "DaVinci Resolve Studio", "edition": "studio", "version": "18.5.1.6"},
            "DaVinci Resolve 18.5.1.6, Studio: Python plugin",
        ),
        ({"product": "", "version": ""}, "DaVinci Resolve, free: Python plugin"),
    ],
)
def test_product_version_tier_and_the_way_in(fields: dict[str, Any], words: str):
    assert product_words(a_link(**fields)) == words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Reel 2, 23.976 fps, starts at 01:00:00:00"),
        (
            {"rate": "30000/1001", "is_drop_frame": True, "start_timecode": "01:00:00;00"},
            "Reel 2, 29.97 fps drop-frame, starts at 01:00:00;00",
        ),
        ({"rate": "60000/1001"}, "Reel 2, 59.94 fps, starts at 01:00:00:00"),
        ({"rate": "25", "start_timecode": ""}, "Reel 2, 25 fps"),
        (
            {"rate": "", "is_drop_frame": True, "timeline_name": ""},
            "unnamed, starts at 01:00:00:00",
        ),
        ({"timeline": ""}, "none is open"),
    ],
)
def test_timelines_rate_and_start(fields: dict[str, Any], words: str):
    assert timeline_words(a_where(**fields)) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "now"), (4.9, "now"), (12.4, "12 s ago"), (150.0, "2 min ago"), (8000.0, "2 h ago")],
)
def test_when_the_last_contact_was(seconds: float, words: str):
    assert ago_words(seconds) == words


def test_the_status_bar_says_where_the_editor_is():
    assert status_words(None) == "Resolve: not connected"
    assert status_words(a_now(state="not_connected")) == "Resolve: not connected"
    assert status_words(a_now(a_link())) == "Resolve: connected"
    assert status_words(a_now(a_link(a_where()))) == "Resolve: Harbor / Reel 2"
    assert status_words(a_now(a_link(a_where(timeline_name="")))) == "Resolve: Harbor"
    busy = a_now(a_link(a_where()), state="busy", message="Look.")
    assert status_words(busy) == "Resolve waits for you"


def test_a_menu_entry_that_ends_at_once_is_not_who_is_connected():
    assert status_words(a_now(a_link(a_where(), is_owner=False))) == "Resolve: not connected"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (None, "The studio is not there."),
        (a_now(state="not_connected"), "Resolve is not connected."),
        (
            a_now(a_link(a_where()), state="busy"),
            "Close the window that waits for you in Resolve.",
        ),
        (a_now(a_link()), "Looking where you are in Resolve."),
        (a_now(a_link(a_where(project=""))), "No project is open in Resolve."),
    ],
)
def test_what_keeps_every_verb_back(now: ResolveNow | None, reason: str):
    for verb, _, _ in VERBS:
        assert obstacle(verb, now, num_to_place=1) == reason


@pytest.mark.parametrize(
    ("fields", "able"),
    [
        ({"page": "edit"}, {verb for verb, _, _ in VERBS}),
        (
            {"page": "fusion"},
            {verb for verb, _, _ in VERBS} - {"generate_at_playhead", "fill_gap"},
        ),
        ({"timeline": ""}, {"place_finished_takes"}),
    ],
)
def test_which_verbs_can_be_begun_where(fields: dict[str, Any], able: set[Verb]):
    now = a_now(a_link(a_where(**fields)))
    assert {verb for verb, _, _ in VERBS if not obstacle(verb, now, num_to_place=1)} == able
    assert obstacle("place_finished_takes", now, num_to_place=0) == (
        "No finished take of this project waits for its place."
    )


def test_what_the_installer_did():
    step = "In Resolve choose FreeSwim Connect."
    done = {"written": ["/scripts/Fill gap.py"], "left": [], "next_step": step}
    assert installed_words(done) == f"The menu entries were installed. {step}"
    again = done | {"written": []}
    assert installed_words(again) == f"The menu entries are there already. {step}"
    foreign = done | {"left": ["/scripts/Fill gap.py"]}
    assert installed_words(foreign) == (
        f"Left as they are, for FreeSwim did not write them: Fill gap.py. {step}"
    )


def test_where_a_shot_goes_and_for_how_long():
    place = spot_of(a_shot(resolve=PLACE))
    assert place is not None
    assert spot_words(place) == "01:01:00;02 on Reel 2"
    assert length_words(place) == "60 frames at 29.97 fps"
    with_handles = spot_of(a_shot(resolve=PLACE | {"handles": [12, 8], "num_frames": 1}))
    assert with_handles is not None
    assert length_words(with_handles) == "1 frame at 29.97 fps, handles 12 and 8"


@pytest.mark.parametrize(
    "placement", [{}, {"resolve": None}, {"resolve": {"project": "p"}}, {"track": 1}]
)
def test_placements_in_others_words_are_none_of_ours(placement: dict[str, Any]):
    shot = a_shot(**placement, wish={"preset": "demo", "request": {}, "takes": 1})
    assert spot_of(shot) is None and wish_of(shot) is None and not needs_prompt(shot)


@pytest.mark.parametrize(
    ("request_", "is_needed"),
    [
        ({"kind": "text", "prompt": ""}, True),
        ({"kind": "image"}, True),
        ({"kind": "text", "prompt": "koi"}, False),
        ({"kind": "clip", "prompt": ""}, False),
    ],
)
def test_who_is_asked_for_a_prompt(request_: dict[str, Any], is_needed: bool):
    wish = {"preset": "demo", "request": request_, "takes": 1}
    assert needs_prompt(a_shot(resolve=PLACE, wish=wish)) == is_needed


@pytest.mark.parametrize(
    ("placing", "short", "sentence", "colour"),
    [
        (
            Placing(state=PlacingState.PLACED, message="On V2.", track=2, record_frame=107892),
            "V2 01:00:00;00",
            "On V2.",
            theme.DONE,
        ),
        (
            Placing(state=PlacingState.WAITING, message="Finished. Resolve is not connected."),
            "Waits for Resolve",
            "Finished. Resolve is not connected.",
            theme.WARNING,
        ),
        (
            Placing(state=PlacingState.WAITING),
            "Waits for Resolve",
            "Goes to the timeline when Resolve is connected.",
            theme.WARNING,
        ),
        (
            Placing(state=PlacingState.POOL, message="In the media pool only: why."),
            "Media pool only",
            "In the media pool only: why.",
            theme.WARNING,
        ),
        (
            Placing(state=PlacingState.FAILED, message="Resolve cannot read it."),
            "Not placed",
            "Resolve cannot read it.",
            theme.FAILED,
        ),
        (
            Placing(state=PlacingState.WANTED),
            "On its way",
            "On its way to the timeline.",
            theme.LINK,
        ),
    ],
)
def test_what_became_of_a_take(placing: Placing, short: str, sentence: str, colour: str):
    there = placed(a_take(1, placing=placing), spot_of(a_shot(resolve=PLACE)))
    assert there is not None
    assert (there.short, there.sentence, there.colour) == (short, sentence, colour)


def test_takes_that_are_placed_rejected_drafts_or_nowhere_asked_for_are_not_placed_again():
    place = spot_of(a_shot(resolve=PLACE))
    is_there = Placing(state=PlacingState.PLACED, track=1, record_frame=0)
    in_pool = Placing(state=PlacingState.POOL)
    assert can_be_placed(a_take(1), place)
    assert can_be_placed(a_take(1, placing=in_pool), place)  # by hand; not by the verb
    takes = [
        a_take(1, placing=is_there),
        a_take(2, verdict="rejected"),
        a_take(3, is_draft=True),
    ]
    assert not any(can_be_placed(take, place) for take in takes)
    assert not can_be_placed(a_take(1), None)
    pairs = [(take, place) for take in (*takes, a_take(4), a_take(5, placing=in_pool))]
    assert count_to_place([*pairs, (a_take(6), None)], "p") == 1
    assert count_to_place(pairs, "another") == 0
