"""The `freeswim` command as a person and as a program use it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import opentimelineio as otio
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from freeswim import paths
from freeswim.cli.main import main
from freeswim.cli.options import read_lora
from freeswim.video.reader import probe, read_frames
from freeswim.video.writer import write_video

PROMPT = "two orange koi swimming left in green water"
FEW = ["--steps", "3", "--strength", "0.4"]  # of these one is left for the second pass
QUICK = ["--preset", "demo", "--size", "160x128", "--frames", "5", *FEW, "--seed", "7"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each test in a folder of its own, with no models on the machine but the demo."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def clip() -> Path:
    path = Path("pond.mp4")
    frames = (np.full((48, 64, 3), index * 5000, np.uint16) for index in range(6))
    write_video(path, frames, width=64, height=48, frame_rate=Fraction(25), num_frames=6)
    return path


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status and message of a command that fails and leaves nothing new."""
    before = files()
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(str(stop.code))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert files() == before
    return status, captured.err


# ---------------------------------------------------------------------------- making takes


def test_generate_makes_a_playable_take_with_a_sidecar(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", PROMPT, *QUICK]) == 0
    media = Path("two-orange-koi-swimming-left-in-green-7.mp4")
    assert files() == [media.with_suffix(".json").name, media.name]
    take = probe(media)
    assert (take.width, take.height, take.num_frames) == (160, 128, 5)
    captured = capsys.readouterr()
    assert str(media) in captured.out
    assert "base 3/3" in captured.err and "refine (" in captured.err
    assert "Traceback" not in captured.err


def test_draft_is_finished_to_the_take_it_would_have_been():
    assert main(["generate", PROMPT, *QUICK, "--draft", "--out", "d.mp4"]) == 0
    assert main(["generate", PROMPT, *QUICK, "--out", "whole.mp4"]) == 0
    assert main(["finish", "d.mp4", "--out", "from-latents.mp4"]) == 0
    Path("d.latents.safetensors").unlink()
    assert main(["finish", "d.json", "--out", "from-scratch.mp4"]) == 0
    whole = Path("whole.mp4").read_bytes()
    assert Path("from-latents.mp4").read_bytes() == whole
    assert Path("from-scratch.mp4").read_bytes() == whole


def test_lora_changes_the_take_and_its_draft_is_finished_with_it(lora: Path):
    command = ["generate", PROMPT, *QUICK, "--lora", f"{lora}:0.5"]
    assert main([*command, "--out", "whole.mp4"]) == 0
    assert main([*command, "--draft", "--out", "d.mp4"]) == 0
    assert main(["finish", "d.mp4", "--out", "finished.mp4"]) == 0
    assert main([*command[:-2], "--out", "without.mp4"]) == 0
    whole = Path("whole.mp4").read_bytes()
    assert Path("finished.mp4").read_bytes() == whole
    pixels = [np.stack(list(read_frames(Path(name)))) for name in ("whole.mp4", "without.mp4")]
    assert np.abs(pixels[0].astype(int) - pixels[1]).mean() > 65535 / 100
    (said,) = json.loads(Path("finished.json").read_text())["request"]["loras"]
    assert said["file"]["path"] == str(lora)
    assert (said["weight"], said["expert"]) == (0.5, "both")


def test_clip_is_remade_with_a_lora(clip: Path, lora: Path):
    command = ["refine", str(clip), "--preset", "demo", *FEW]
    assert main([*command, "--lora", str(lora), "--lora", f"{lora}:-1", "--seed", "1"]) == 0
    said = json.loads(Path("pond-refined.json").read_text())["request"]["loras"]
    assert [lora["weight"] for lora in said] == [1, -1]


@pytest.mark.parametrize(
    "text, name, weight, expert",
    [
        ("x.safetensors", "x.safetensors", 1, "both"),
        ("x.safetensors:0.8", "x.safetensors", 0.8, "both"),
        ("x.safetensors:-1", "x.safetensors", -1, "both"),
        ("high=x.safetensors", "x.safetensors", 1, "high"),
        ("low=x.safetensors:.5", "x.safetensors", 0.5, "low"),
        (r"C:\x.safetensors", r"C:\x.safetensors", 1, "both"),
        (r"C:\x.safetensors:0.8", r"C:\x.safetensors", 0.8, "both"),
        (r"low=C:\x.safetensors:0.8", r"C:\x.safetensors", 0.8, "low"),
        ("step=100.safetensors", "step=100.safetensors", 1, "both"),
        ("a:b.safetensors", "a:b.safetensors", 1, "both"),
    ],
)
def test_lora_is_written_as_file_and_weight(text: str, name: str, weight: float, expert: str):
    Path(name).touch()
    lora = read_lora(text)
    assert lora["file"].path == Path(name).resolve()
    assert (lora["weight"], lora["expert"]) == (weight, expert)


def test_published_usage_sets_mode_and_size():
    command = ["generate", PROMPT, "--preset", "demo", "--seed", "1", *FEW]
    command += ["--frames", "1", "--target_height", "144", "--target_width", "176"]
    assert main([*command, "--mode", "nocache", "--out", "a.mp4"]) == 0
    assert main([*command, "--mode", "cache", "--out", "b.mp4"]) == 0
    nocache, cache = (
        json.loads(Path(name).read_text())["request"] for name in ("a.json", "b.json")
    )
    assert (nocache["width"], nocache["height"]) == (176, 144)
    assert (
        nocache["refine"]["override_unconditional"]
        and not cache["refine"]["override_unconditional"]
    )
    assert (nocache["refine"]["refresh_interval"], cache["refine"]["refresh_interval"]) == (1, 2)


def test_refine_remakes_a_clip_at_twice_its_size_and_its_own_rate(clip: Path):
    assert main(["refine", str(clip), "--preset", "demo", *FEW]) == 0
    take = probe(Path("pond-refined.mp4"))
    assert (take.width, take.height, take.num_frames, take.frame_rate) == (128, 96, 6, 25)
    request = json.loads(Path("pond-refined.json").read_text())["request"]
    assert request["refine"]["strength"] == 0.4
    assert request["clip"]["path"] == str(clip.resolve())


def test_second_take_of_the_same_name_gets_a_number(capsys: pytest.CaptureFixture[str]):
    for _ in range(2):
        assert main(["generate", "koi", *QUICK, "--draft"]) == 0
    assert [name for name in files() if name.endswith(".mp4")] == [
        "koi-7-draft-2.mp4",
        "koi-7-draft.mp4",
    ]


def test_json_events_tell_progress_and_the_take(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", PROMPT, *QUICK, "--json", "--out", "t.mp4"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    *progress, take = (json.loads(line) for line in captured.out.splitlines())
    assert {one["event"] for one in progress} == {"progress"}
    assert {"load", "base", "refine", "write"} <= {one["stage"] for one in progress}
    assert take["event"] == "take"
    assert Path(take["media"]) == Path("t.mp4").absolute()
    assert (take["frames"], take["frame_rate"], take["seed"]) == (5, "8", 7)


def test_newcomer_without_weights_gets_the_demo_and_is_told(capsys: pytest.CaptureFixture[str]):
    command = ["generate", PROMPT, "--size", "128x128", "--frames", "1", *FEW]
    assert main(command) == 0
    assert "taking preset demo" in capsys.readouterr().err


# --------------------------------------------------------------------------------- the demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--out", str(folder)]) == 0
    return folder


def test_demo_shows_draft_and_take_four_times_as_large(demo: Path):
    draft, take = probe(demo / "draft.mp4"), probe(demo / "regenerated.mp4")
    assert (draft.width, take.width) == (128, 512)
    with Image.open(demo / "comparison.png") as sheet:
        assert sheet.size == (4 * 512 + 3 * 8, 512 + 32)
        panels = [np.asarray(sheet.crop((x, 32, x + 512, 544)), int) for x in range(0, 2080, 520)]
    for index, panel in enumerate(panels):
        for other in panels[index + 1 :]:
            assert np.abs(panel - other).mean() > 2  # four different pictures


def test_the_readme_shows_what_the_demo_makes(demo: Path):
    """Roughly: other processors round otherwise, other weights make another pond (27 and more)."""
    root = Path(__file__).parents[1]
    assert "(docs/screens/demo.webp)" in (root / "README.md").read_text("utf-8")
    made, shown = (
        np.asarray(Image.open(path).convert("RGB").resize((260, 68), Image.Resampling.BOX), int)
        for path in (demo / "comparison.png", root / "docs" / "screens" / "demo.webp")
    )
    assert np.abs(made - shown).mean() < 10


def test_demo_timeline_plays_its_takes(demo: Path):
    timeline = otio.adapters.read_from_file(str(demo / "demo.otio"))
    (shot,) = timeline.find_clips()
    media = {
        key: (demo / reference.target_url).name
        for key, reference in shot.media_references().items()
    }
    assert media == {"DEFAULT_MEDIA": "regenerated.mp4", "take_02": "draft.mp4"}
    for name in media.values():
        assert (demo / name).is_file()


def test_demo_folder_is_never_overwritten(demo: Path, capsys: pytest.CaptureFixture[str]):
    status, message = refused(capsys, "demo", "--out", str(demo))
    assert status == 6
    assert "already there" in message


# -------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["generate", ""], "prompt is empty"),
        (["generate", "koi", "--size", "0x0"], "0x0 cannot be made"),
        (["generate", "koi", "--size", "100000x100000"], "100000x100000 cannot be made"),
        (["generate", "koi", "--size", "large"], "'large' is not a size"),
        (["generate", "koi", "--frames", "0"], "0 frames cannot be made"),
        (["generate", "koi", "--strength", "0"], "strength cannot be 0.0"),
        (["generate", "koi", "--strength", "2"], "strength cannot be 2.0"),
        (["generate", "koi", "--steps", "0"], "steps cannot be 0"),
        (["generate", "koi", "--seed", "-1"], "seed cannot be -1"),
        (["generate", "koi", "--guidance", "nan"], "guidance_scale cannot be nan"),
        (["generate", "koi", "--preset", "8k"], "no preset called '8k'"),
        (["generate", "koi", "--model", "sora"], "no checkpoint called 'sora'"),
        (["generate", "koi", "--device", "cuda:9"], "no device 'cuda:9'"),
        (["generate", "koi", "--last-image", "x.png"], "needs a first one"),
        (["generate", "koi", "--attention", "natten"], "natten cannot run"),
        (["generate", "koi", "--lora", "koi.safetensors:9"], "loras.0.weight cannot be 9.0"),
        (["generate", "koi", "--lora", "koi.safetensors:nan"], "loras.0.weight cannot be nan"),
        (["generate", "koi", "--lora", "koi.safetensors:strong"], "'strong' is not the weight"),
        (["generate", "koi", "--lora", "low=koi.safetensors"], "has one expert"),
        (["generate", "koi", "--preset", "wan21-14b-1440p-8-steps"], "needs a LoRA"),
        (["generate"], "required: PROMPT"),
        (["paint"], "invalid choice"),
        ([], "required: COMMAND"),
    ],
)
def test_bad_request_is_one_sentence_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
):
    Path("koi.safetensors").touch()
    preset = [] if "--preset" in arguments or len(arguments) < 2 else ["--preset", "demo"]
    status, message = refused(capsys, *arguments, *preset)
    assert status == 2
    assert sentence in message


def test_request_for_media_that_is_none_is_status_3(capsys: pytest.CaptureFixture[str]):
    Path("text.mp4").write_text("this is not a video\n")
    Path("list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    Path("text.png").write_text("this is not an image\n")
    Path("empty.mp4").touch()
    i2v = ["--preset", "demo", "--model", "wan2.2-ti2v-5b", "--size", "64x64"]
    for arguments in (
        ["refine", "text.mp4"],
        ["refine", "list.mp4"],
        ["refine", "empty.mp4"],
        ["refine", "gone.mp4"],
        ["refine", "."],
        ["finish", "text.mp4"],
        ["finish", "gone.mp4"],
        ["generate", "koi", "--image", "text.png", *i2v],
        ["generate", "koi", "--image", "gone.png", *i2v],
        ["generate", "koi", "--lora", "gone.safetensors:0.5", "--preset", "demo"],
        ["generate", "koi", "--lora", ".", "--preset", "demo"],
    ):
        status, message = refused(capsys, *arguments)
        assert status == 3, (arguments, message)
        assert len(message.splitlines()) == 2, message  # a sentence and a hint


def test_take_that_is_no_draft_cannot_be_finished(capsys: pytest.CaptureFixture[str]):
    main(["generate", "koi", *QUICK, "--out", "t.mp4", "--size", "128x128"])
    capsys.readouterr()
    status, message = refused(capsys, "finish", "t.mp4")
    assert status == 2
    assert "is not a draft" in message


def test_missing_checkpoint_is_status_4_and_says_how_to_get_it(capsys: pytest.CaptureFixture[str]):
    status, message = refused(capsys, "generate", "koi", "--preset", "wan21-14b-4k")
    assert status == 4
    assert "hf download Wan-AI/Wan2.1-T2V-14B-Diffusers" in message


class Evil:
    def __reduce__(self):
        return (os.system, (f"touch {Path('marker').absolute()}",))


def test_damaged_or_pickled_checkpoint_is_status_4(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models = tmp_path / "models"
    folder = models / "wan2.1-t2v-1.3b"
    shutil.copytree(paths.demo_weights(), folder)
    monkeypatch.setenv("FREESWIM_MODELS", str(models))
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    command = ("generate", "koi", "--preset", "wan21-1.3b-1080p")
    status, message = refused(capsys, *command)
    assert (status, "damaged" in message) == (4, True)
    weights.unlink()
    (weights.parent / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    status, message = refused(capsys, *command)
    assert (status, "is a pickle" in message) == (4, True)
    assert not Path("marker").exists()


def test_lora_that_is_none_is_status_4(capsys: pytest.CaptureFixture[str], lora: Path):
    Path("koi.pt").write_bytes(pickle.dumps(Evil()))
    Path("pickle.safetensors").write_bytes(pickle.dumps(Evil()))
    Path("half.safetensors").write_bytes(lora.read_bytes()[:-100])
    save_file({"lora_te1_x.lora_down.weight": torch.ones(1)}, "sdxl.safetensors")
    for name, words in (
        ("koi.pt:0.5", "a pickle can run any program"),
        ("pickle.safetensors", "a pickle can run any program"),
        ("half.safetensors", "is damaged"),
        ("sdxl.safetensors", "such as lora_te1_x.lora_down.weight"),
    ):
        status, message = refused(capsys, "generate", "koi", *QUICK, "--lora", name)
        assert (status, words in message) == (4, True), message
    assert not Path("marker").exists()


def test_lora_that_changed_since_the_draft_is_status_3(
    capsys: pytest.CaptureFixture[str], lora: Path
):
    assert main(["generate", "koi", *QUICK, "--draft", "--out", "d.mp4", "--lora", str(lora)]) == 0
    lora.write_bytes(b"other")
    capsys.readouterr()
    status, message = refused(capsys, "finish", "d.mp4")
    assert status == 3
    assert "koi.safetensors has changed since the request was made" in message
    assert "load" not in message


def test_place_that_cannot_be_written_is_status_6_before_any_work(
    capsys: pytest.CaptureFixture[str],
):
    Path("file").touch()
    Path("taken.mp4").write_text("mine")
    for out in ("gone/t.mp4", "file/t.mp4", "taken.mp4", "t.avi", "/proc/t.mp4"):
        status, message = refused(capsys, "generate", "koi", *QUICK, "--out", out)
        assert status == 6, (out, message)
        assert "load" not in message
    assert Path("taken.mp4").read_text() == "mine"


def test_plan_says_what_a_take_would_need_and_makes_none(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "generate", PROMPT, *QUICK]) == 0
    said = capsys.readouterr().out
    assert "Tokens: " in said
    assert said.count("not measured yet") == 5  # four stages, and all of them
    assert files() == []
    assert main(["generate", PROMPT, *QUICK, "--out", "t.mp4"]) == 0
    assert main(["plan", "generate", PROMPT, *QUICK]) == 0
    assert "not measured yet" not in capsys.readouterr().out


def test_plan_for_programs_has_the_numbers(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "generate", PROMPT, *QUICK, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    plan = json.loads(line)
    assert plan["event"] == "plan"
    assert plan["work"].keys() == plan["minutes"].keys() == {"base", "upsample", "refine", "write"}
    assert plan["needs"][0]["verdict"] == "taken"
    assert 0.5e9 < plan["needs"][0]["host_bytes"] < 2e9


@pytest.mark.parametrize("command", ["plan", "make"])
def test_budget_that_is_too_small_is_status_5_with_the_numbers(
    capsys: pytest.CaptureFixture[str], command: str
):
    prefix = ["plan"] if command == "plan" else []
    out = [] if command == "plan" else ["--out", "t.mp4"]
    wanted = ["generate", PROMPT, "--preset", "demo", "--size", "2048x2048", *out]
    assert main([*prefix, *wanted, "--memory", "0.9GB"]) == 5
    said = capsys.readouterr().err
    assert "2048x2048, 9 frames, need " in said
    assert "0.9 GB may be used" in said
    assert "This would fit: " in said
    assert files() == []


@pytest.mark.parametrize("memory", ["much", "-1", "0", "nan", "1e99"])
def test_budget_that_is_no_memory_is_bad_usage(memory: str):
    with pytest.raises(SystemExit) as caught:
        main(["generate", PROMPT, "--memory", memory])
    assert caught.value.code == 2


@pytest.mark.parametrize("is_filled_meanwhile", [False, True])
def test_full_disk_is_status_6_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_filled_meanwhile: bool,
):
    if is_filled_meanwhile:
        much = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: much)
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a small disk")
    try:
        status = main(["generate", PROMPT, *QUICK, "--out", str(small / "t.mp4")])
        assert status == 6
        assert list(small.iterdir()) == []
        said = capsys.readouterr().err
        assert ("No space left on device" in said) == is_filled_meanwhile
        assert ("0.0164 MB free" in said) != is_filled_meanwhile
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_too_little_memory_is_status_5_and_leaves_nothing():
    """A real allocator that refuses: the process may not grow by what 2048x2048 needs."""
    code = """
import resource, sys
import freeswim.generate
from freeswim.cli.main import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20,) * 2)
sys.exit(main(sys.argv[1:]))
"""
    size = ["--size", "2048x2048", "--frames", "9"]
    large = ["--preset", "demo", *size, "--steps", "4", "--out", "t.mp4"]
    done = subprocess.run(
        [sys.executable, "-c", code, "generate", PROMPT, *large], capture_output=True, text=True
    )
    assert done.returncode == 5, done.stderr
    assert "2048x2048, 9 frames: 1.4 GB of memory were not enough." in done.stderr
    assert "This would fit: " in done.stderr
    assert files() == []


def test_overwrite_replaces_the_take_and_its_sidecar():
    main(["generate", "koi", *QUICK, "--draft", "--out", "t.mp4"])
    before = Path("t.json").read_text()
    again = [*QUICK[:-1], "8", "--draft", "--out", "t.mp4", "--overwrite"]
    assert main(["generate", "koi", *again]) == 0
    assert Path("t.json").read_text() != before


def test_error_in_json_is_an_event(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "", "--preset", "demo", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err == ""
    error = json.loads(captured.out)
    assert (error["event"], error["code"]) == ("error", "bad_request")
    assert error["hint"]


def test_traceback_is_shown_with_debug_only(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "", "--preset", "demo", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


# -------------------------------------------------------------------------------- stopping


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    "stage, stop",
    [
        ("load", signal.SIGINT),
        ("base", signal.SIGINT),
        ("refine", signal.SIGTERM),
        ("write", signal.SIGINT),
    ],
)
def test_ctrl_c_at_any_stage_stops_cleanly(stage: str, stop: signal.Signals):
    command = [sys.executable, "-m", "freeswim.cli", "generate", PROMPT, "--json"]
    slow = ["--preset", "demo", "--size", "256x256", "--seed", "7", "--steps", "20"]
    events: list[dict[str, object]] = []
    with subprocess.Popen(
        [*command, *slow, "--out", "t.mp4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1].get("stage") == stage:
                process.send_signal(stop)
                break
        events += [json.loads(line) for line in process.stdout]
        assert process.stderr.read() == ""
    assert process.returncode == 130
    cancelled = {
        "event": "error",
        "code": "cancelled",
        "message": "Cancelled.",
        "hint": "",
        "details": {},
    }
    assert events[-1] == cancelled
    assert files() == []
    assert not children_named("ffmpeg", since=process.pid)


def children_named(name: str, since: int) -> list[str]:
    """Processes of that name that were started after process `since`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if name in (entry / "comm").read_text() and int(entry.name) > since:
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return [line for line in found if str(Path.cwd()) in line]


def test_plain_lines_are_few_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]):
    began = time.monotonic()
    assert main(["generate", "koi", *QUICK, "--draft", "--out", "t.mp4"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 5 + (time.monotonic() - began) / 10
    assert any(line.startswith("base 3/3") for line in lines)
