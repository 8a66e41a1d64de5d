from __future__ import annotations

import time
from pathlib import Path

import pytest

from freeswim.errors import PresetError, RequestError
from freeswim.presets import load_preset, preset_names, read_preset
from freeswim.request import Request

EXPECTED = {
    "demo",
    "draft-480p",
    "wan21-1.3b-1080p",
    "wan21-1.3b-1080p-8-steps",
    "wan21-14b-1440p",
    "wan21-14b-1440p-8-steps",
    "wan21-14b-4k",
    "wan22-5b-1440p",
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_every_preset_is_there_explained_and_makes_a_request():
    assert set(preset_names()) == EXPECTED
    for name in preset_names():
        preset = load_preset(name)
        assert preset.title and preset.description
        request = Request.parse({"kind": "text", "prompt": "a pond", **preset.defaults})
        assert request.draft == (name == "draft-480p")


def test_demo_preset_has_the_settings_at_which_its_model_shows_the_method():
    refine = load_preset("demo").defaults["refine"]
    assert (refine["strength"], refine["refresh_interval"]) == (0.25, 2)
    assert 2 <= refine["guidance_scale"] <= 3


@pytest.mark.parametrize("name", ["wan21-1.3b-1080p-8-steps", "wan21-14b-1440p-8-steps"])
def test_few_step_preset_has_no_guidance_and_needs_a_lora(name: str):
    preset = load_preset(name)
    request = Request.parse({"kind": "text", "prompt": "a pond", **preset.defaults})
    assert (request.base.guidance_scale, request.refine.guidance_scale) == (1, 1)
    assert (request.base.steps, request.refine.num_refine_steps) == (8, 5)
    preset.check_loras(1)
    with pytest.raises(RequestError, match=f"{name} needs a LoRA") as caught:
        preset.check_loras(0)
    assert "--lora" in caught.value.hint
    assert "such as" in caught.value.hint


def test_other_presets_need_no_lora():
    for name in preset_names():
        if not name.endswith("8-steps"):
            load_preset(name).check_loras(0)


def test_unknown_preset_lists_those_that_exist():
    with pytest.raises(PresetError, match="no preset called 'nope'") as caught:
        load_preset("nope")
    assert "wan21-14b-4k" in caught.value.hint


def test_name_is_not_a_path():
    with pytest.raises(PresetError, match="no preset called"):
        load_preset("../presets/demo")


@pytest.mark.parametrize(
    "text, message, hint",
    [
        ("checkpoint: demo\ncolour: red\n", "mine.yaml: there is no setting colour", "checkpoint"),
        ("checkpoint: demo\nrefine: {stregth: 1}\n", "no setting refine.stregth", "strength"),
        ("checkpoint: demo\nrefine: {strength: 2}\n", "refine: strength cannot be 2", "above 0"),
        ("checkpoint: demo\nrefine: {strength: high}\n", "wrong type", "str"),
        ("checkpoint: demo\nrefine: 3\n", "refine holds no settings", "Indent"),
        ("checkpoint: dalle\n", "no checkpoint called 'dalle'", "demo"),
        ("width: 3\n", "no checkpoint called ''", "demo"),
        ("checkpoint: demo\nneeds_lora: perhaps\n", "needs_lora cannot be 'perhaps'", "true"),
        ("checkpoint: demo\nloras: [a.safetensors]\n", "there is no setting loras", "checkpoint"),
        ("a: [1\n", "is not YAML", "Check"),
        ("", "holds no settings", "Allowed"),
        ("- 1\n", "holds no settings", "Allowed"),
        ("checkpoint: demo\nbase: &b {steps: 1}\nrefine: *b\n", "alias", "Write the values out"),
        ("!!python/object/apply:os.system ['touch marker']\n", "is not YAML", "Check"),
    ],
)
def test_wrong_preset_names_file_and_key(tmp_path: Path, text: str, message: str, hint: str):
    with pytest.raises(PresetError, match=message) as caught:
        read_preset(written(tmp_path, text))
    assert "mine.yaml" in caught.value.message
    assert hint in caught.value.hint
    assert not Path("marker").exists()


def test_alias_bomb_and_a_huge_file_are_refused_at_once(tmp_path: Path):
    layers = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    began = time.process_time()
    with pytest.raises(PresetError, match="alias"):
        read_preset(written(tmp_path, "a0: &a0 [x]\n" + layers))
    with pytest.raises(PresetError, match="too large"):
        read_preset(written(tmp_path, "title: " + "x" * 100_000))
    assert time.process_time() - began < 5


def test_missing_file_is_a_preset_error(tmp_path: Path):
    with pytest.raises(PresetError, match="cannot be read"):
        read_preset(tmp_path / "gone.yaml")
