from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswim.errors import MediaError, RequestError
from freeswim.request import Media, Request

FIELDS: dict[str, Any] = {
    "kind": "text",
    "checkpoint": "demo",
    "prompt": "two orange koi swimming left in green water",
    "width": 512,
    "height": 512,
    "frames": 9,
}


@pytest.fixture
def media(tmp_path: Path) -> Media:
    path = tmp_path / "frame.png"
    path.write_bytes(b"some bytes")
    return Media.of(path)


@given(
    width=st.integers(16, 4096),
    height=st.integers(16, 4096),
    frames=st.integers(1, 1021),
    seed=st.integers(0, 2**32 - 1),
    prompt=st.text(
        st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1
    ).filter(str.strip),
)
def test_request_survives_its_own_json(
    width: int, height: int, frames: int, seed: int, prompt: str
):
    request = Request.parse(
        FIELDS
        | {"width": width, "height": height, "frames": frames, "seed": seed, "prompt": prompt}
    )
    again = Request.parse(json.loads(request.as_json()))
    assert again == request
    assert again.as_json() == request.as_json()
    assert again.digest() == request.digest()
    assert all(c >= s for c, s in zip(request.computed_size, (width, height), strict=True))
    assert request.computed_frames % 4 == 1


def test_digest_follows_every_field_and_ignores_where_a_file_lies(tmp_path: Path, media: Media):
    fields = FIELDS | {
        "kind": "image", "checkpoint": "wan2.2-i2v-a14b", "first_image": media,
    }  # fmt: skip
    request = Request.parse(fields)
    moved = tmp_path / "elsewhere.png"
    moved.write_bytes(media.path.read_bytes())
    assert request.changed(first_image=Media.of(moved).model_dump(mode="json")).digest() == (
        request.digest()
    )
    moved.write_bytes(b"other bytes")
    lora = {"file": media}
    changes: list[dict[str, Any]] = [
        {"first_image": Media.of(moved).model_dump(mode="json")},
        {"prompt": "one koi"}, {"negative_prompt": "blur"}, {"seed": 1}, {"frames": 5},
        {"width": 256}, {"draft": True}, {"checkpoint": "wan2.1-i2v-14b-480p"},
        {"base": {"steps": 3}}, {"refine": {"strength": 0.5}},
        {"loras": [lora]}, {"loras": [lora | {"weight": 0.5}]}, {"loras": [lora, lora]},
        {"loras": [lora | {"expert": "low"}]}, {"loras": [lora | {"file": Media.of(moved)}]},
    ]  # fmt: skip
    digests = {request.changed(**change).digest() for change in changes} | {request.digest()}
    assert len(digests) == len(changes) + 1


def test_settings_that_are_not_given_are_the_official_ones():
    request = Request.parse(FIELDS)
    assert (request.refine.steps, request.refine.strength, request.refine.flow_shift) == (
        50,
        0.7,
        9,
    )


def test_take_sizes_of_a_draft_a_native_and_a_large_request():
    wide = Request.parse(FIELDS | {"checkpoint": "wan2.1-t2v-1.3b", "width": 1920, "height": 1080})
    assert wide.computed_size == (1920, 1088)
    assert wide.take_size == (1920, 1080)
    assert wide.changed(draft=True).take_size == (832, 480)
    native = wide.changed(width=832, height=480)
    assert not native.needs_refine
    assert native.take_size == (832, 480)
    assert wide.needs_refine and not wide.changed(draft=True).needs_refine


@pytest.mark.parametrize(
    "change, message",
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"prompt": "x" * 10_001}, "prompt cannot be"),
        ({"width": 0}, "0x512 cannot be made"),
        ({"width": 100_000}, "100000x512 cannot be made"),
        ({"height": -1}, "cannot be made"),
        ({"frames": 0}, "0 frames cannot be made"),
        ({"frames": 100_000}, "100000 frames cannot be made"),
        ({"seed": -1}, "seed cannot be -1"),
        ({"seed": 2**32}, "seed cannot be"),
        ({"width": "wide"}, "width cannot be 'wide'"),
        ({"refine": {"strength": 0}}, "strength cannot be 0"),
        ({"refine": {"strength": 2}}, "strength cannot be 2"),
        ({"refine": {"strenght": 0.5}}, "no field 'refine.strenght'"),
        ({"refine": {"attention": "magic"}}, "refine.attention cannot be 'magic'"),
        ({"kind": "dream"}, "kind cannot be 'dream'"),
        ({"checkpoint": "sora"}, "no checkpoint called 'sora'"),
        ({"colour": "red"}, "no field 'colour'"),
        ({"kind": "image"}, "needs a first frame"),
        ({"kind": "clip"}, "needs a clip"),
        ({"checkpoint": "wan2.1-i2v-14b-480p"}, "needs a first frame"),
        ({"clip": {"path": "a.mp4", "sha256": "0" * 64}}, "has no clip"),
    ],
)
def test_bad_field_is_named_in_one_sentence_with_a_hint(change: dict[str, Any], message: str):
    with pytest.raises(RequestError, match=message) as caught:
        Request.parse(FIELDS | change)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_missing_field_is_named():
    with pytest.raises(RequestError, match="no frames"):
        Request.parse({name: value for name, value in FIELDS.items() if name != "frames"})


def test_image_needs_a_checkpoint_that_takes_one(media: Media):
    with pytest.raises(RequestError, match="cannot start from an image"):
        Request.parse(FIELDS | {"kind": "image", "first_image": media})
    with pytest.raises(RequestError, match="cannot end on an image"):
        Request.parse(
            FIELDS | {"kind": "image", "checkpoint": "wan2.2-ti2v-5b"}
            | {"first_image": media, "last_image": media}
        )  # fmt: skip


@pytest.mark.parametrize("strength", [0.05, 0.95])
def test_strength_that_keeps_nothing_or_all_of_a_clip_is_refused(media: Media, strength: float):
    with pytest.raises(RequestError, match="where a clip is remade"):
        Request.parse(FIELDS | {"kind": "clip", "clip": media, "refine": {"strength": strength}})


def test_clip_has_no_draft(media: Media):
    with pytest.raises(RequestError, match="no draft"):
        Request.parse(FIELDS | {"kind": "clip", "clip": media, "draft": True})


def test_file_that_changed_since_the_request_is_refused(media: Media):
    media.check_unchanged()
    media.path.write_bytes(b"changed")
    with pytest.raises(MediaError, match=r"frame\.png has changed"):
        media.check_unchanged()


def test_missing_file_is_a_media_error(tmp_path: Path):
    with pytest.raises(MediaError, match=r"gone\.png cannot be read"):
        Media.of(tmp_path / "gone.png")


# ---------------------------------------------------------------------------------------- LoRAs


def test_request_without_lora_is_what_it_was_before_there_were_any():
    request = Request.parse(FIELDS)
    assert "lora" not in request.as_json()  # in sidecars, in video files
    assert request.digest() == hashlib.sha256(request.as_json().encode()).hexdigest()
    assert Request.parse(request.as_dict()).loras == ()


def test_loras_keep_their_order_and_survive_json(tmp_path: Path):
    loras: list[dict[str, Any]] = []
    for index, weight in enumerate([0.5, 1, -4]):
        path = tmp_path / f"{3 - index}.safetensors"
        path.write_bytes(b"%d" % index)
        loras.append({"file": Media.of(path), "weight": weight})
    request = Request.parse(FIELDS | {"loras": loras})
    assert [lora.weight for lora in request.loras] == [0.5, 1, -4]
    assert Request.parse(json.loads(request.as_json())) == request
    turned = Request.parse(FIELDS | {"loras": loras[::-1]})
    assert turned.digest() != request.digest()


def test_lora_counts_by_its_bytes_not_its_place(tmp_path: Path, media: Media):
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(media.path.read_bytes())
    here, there = (
        Request.parse(FIELDS | {"loras": [{"file": file}]}) for file in (media, Media.of(moved))
    )
    assert here.digest() == there.digest()
    assert here.as_json() != there.as_json()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weight": 4.1}, r"loras\.0\.weight cannot be 4\.1"),
        ({"weight": -5}, r"loras\.0\.weight cannot be -5"),
        ({"weight": float("nan")}, r"loras\.0\.weight cannot be nan"),
        ({"weight": float("inf")}, r"loras\.0\.weight cannot be inf"),
        ({"weight": "much"}, r"loras\.0\.weight cannot be 'much'"),
        ({"expert": "middle"}, r"loras\.0\.expert cannot be 'middle'"),
        ({"expert": "high"}, "has one expert, none for high noise alone"),
        ({"expert": "low"}, "has one expert, none for low noise alone"),
        ({"scale": 1}, r"no field 'loras\.0\.scale'"),
        ({"file": None}, r"loras\.0\.file cannot be None"),
    ],
)
def test_bad_lora_is_named(change: dict[str, Any], message: str, media: Media):
    with pytest.raises(RequestError, match=message):
        Request.parse(FIELDS | {"loras": [{"file": media} | change]})


def test_one_expert_of_two_may_have_a_lora(media: Media):
    loras = [{"file": media, "expert": expert} for expert in ("high", "low", "both")]
    request = Request.parse(FIELDS | {"checkpoint": "wan2.2-t2v-a14b", "loras": loras})
    assert [lora.expert for lora in request.loras] == ["high", "low", "both"]


def test_more_loras_than_eight_are_refused(media: Media):
    Request.parse(FIELDS | {"loras": [{"file": media}] * 8})
    with pytest.raises(RequestError, match="cannot have 9 LoRAs"):
        Request.parse(FIELDS | {"loras": [{"file": media}] * 9})


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
def test_a_pipe_or_a_device_is_no_media(tmp_path: Path):
    pipe = tmp_path / "clip.mov"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(MediaError, match="is not a file"):
            Media.of(path)


def test_a_message_repeats_no_more_than_a_little_of_what_was_given():
    with pytest.raises(RequestError) as failed:
        Request.parse({"kind": "text", "prompt": "koi", "width": "9" * 100_000})
    assert len(failed.value.message) < 300
