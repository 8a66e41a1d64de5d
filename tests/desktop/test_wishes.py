"""A shot as it was asked for inside Resolve, as settings and back."""

from __future__ import annotations

from typing import Any

import pytest

try:
    from desktop.settings.sheet import Library, flat
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from freeswim.presets import load_preset, preset_names
from freeswim.studio.wire import PresetSaid

IMAGE = {"path": "/stills/gap_first.png"}
WISHES: dict[str, tuple[str, dict[str, Any]]] = {
    "at the playhead": (
        "wan21-1.3b-1080p",
        {
            "kind": "text",
            "checkpoint": "wan2.1-t2v-1.3b",
            "width": 3840,
            "height": 2160,
            "prompt": "",
            "frames": 81,
        },
    ),
    "a gap": (
        "wan22-5b-1440p",
        {
            "kind": "image",
            "prompt": "koi",
            "first_image": IMAGE,
            "last_image": {"path": "/stills/gap_last.png"},
            "frames": 49,
            "seed": 11,
        },
    ),
    "a clip": (
        "draft-480p",
        {
            "kind": "clip",
            "prompt": "",
            "clip": {"path": "/footage/A004.mov"},
            "clip_start": 12,
            "frames": 48,
            "width": 2160,
            "height": 3840,
            "refine": {"strength": 0.3},
            "negative_prompt": "text",
        },
    ),
}


@pytest.fixture
def library() -> Library:
    return Library([PresetSaid(**vars(load_preset(name))) for name in preset_names()], ["demo"])


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_what_was_asked_for_is_what_the_settings_show(
    library: Library, wish: tuple[str, dict[str, Any]]
):
    preset, request = wish
    sheet = library.sheet_of_changes(preset, request)
    values = library.values(sheet)
    asked = flat(request)
    assert {name: values[name] for name in asked} == asked
    usual = library.baseline(sheet)
    draft = {"draft": False} if request["kind"] == "clip" else {}  # a clip is never one
    rest = (usual | draft).items()
    assert {name: values[name] for name, _ in rest if name not in asked} == {
        name: value for name, value in rest if name not in asked
    }
    assert sheet.preset == preset and sheet.is_seed_locked == ("seed" in request)


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_what_is_sent_is_what_was_asked_for_with_the_prompt(
    library: Library, wish: tuple[str, dict[str, Any]]
):
    preset, request = wish
    sheet = library.sheet_of_changes(preset, request)
    sheet.prompt = "two gulls"
    sent = library.submission(sheet)
    assert sent["preset"] == preset
    known = flat(load_preset(preset).defaults)
    expected = {
        name: value
        for name, value in (flat(request) | {"prompt": "two gulls"}).items()
        if known.get(name, object()) != value and (name, value) != ("kind", "text")
    }
    assert expected.items() <= flat(sent["request"]).items()


def test_a_preset_that_is_gone_is_replaced_by_one_that_can_be_used(library: Library):
    sheet = library.sheet_of_changes("of another version", {"kind": "text", "frames": 9})
    assert sheet.preset == "demo" and library.values(sheet)["frames"] == 9
