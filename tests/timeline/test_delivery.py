"""Exports, looked at as an editor's machine would get them."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import opentimelineio as otio
import pytest
import tones
from bar_codes import CELLS, bits, read_cells
from hypothesis import given
from hypothesis import strategies as st
from test_consumers import needs, play_in_blender, play_in_melt
from test_sound import hear_in_melt
from tones import Heard

from freeswim.errors import Cancelled, MediaError, OutputError, RequestError
from freeswim.presets import load_preset
from freeswim.request import Media, Request
from freeswim.sidecar import file_sha256, sidecar_path
from freeswim.timeline.delivery import ShotFiles, TakeFile, Wanted, deliver, file_word
from freeswim.timeline.editors import EDITORS, Editor, find_editor
from freeswim.timeline.reading import read_timeline
from freeswim.timeline.verify import verify
from freeswim.video.reader import probe
from freeswim.video.writer import write_video

WIDTH, HEIGHT = 256, 144


def write_clip(path: Path, code: int, num_frames: int, rate: Fraction) -> None:
    def picture(frame: int) -> np.ndarray:
        row = np.repeat(bits(code, frame) * 65535, WIDTH // CELLS).astype(np.uint16)
        return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)))

    frames = (picture(frame) for frame in range(num_frames))
    size = {"width": WIDTH, "height": HEIGHT, "frame_rate": rate, "num_frames": num_frames}
    write_video(path, frames, **size)


def take(
    folder: Path, code: int, *, rate: Fraction | int = 16, number: int = 1, **fields: object
) -> TakeFile:
    """A take of 33 frames, each of which says which it is."""
    path = folder / f"take{code}.mp4"
    write_clip(path, code, 33, Fraction(rate))
    request = Request.parse(
        {**load_preset("demo").defaults, "kind": "text", "prompt": f"koi {code}", "seed": code}
        | {"width": WIDTH, "height": HEIGHT, "frames": 33}
        | fields
    )
    sidecar = {
        "schema": 1,
        "media": {
            "file": path.name,
            "sha256": file_sha256(path),
            "width": WIDTH,
            "height": HEIGHT,
            "frames": 33,
            "frame_rate": str(rate),
        },
        "request": request.as_dict(),
    }
    sidecar_path(path).write_text(json.dumps(sidecar))
    return TakeFile(path, number, f"{code:08x}{code:08x}", sidecar)


@pytest.fixture
def shots(tmp_path: Path) -> list[ShotFiles]:
    """Two shots at 16 frames a second, the first with two takes."""
    return [
        ShotFiles("SC 010 Ködel", take(tmp_path, 1, number=2), (take(tmp_path, 2),)),
        ShotFiles("=SUM(A1)", take(tmp_path, 3)),
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "Müde Köi exports"
    root.mkdir()
    return root


def wanted(editor: str = "kdenlive", **changes: object) -> Wanted:
    return replace(Wanted("Pond", find_editor(editor), way="nearest"), **changes)


def bad(folder: Path) -> list[str]:
    return [finding.problem for finding in verify(folder) if not finding.is_good]


@pytest.mark.parametrize("editor", EDITORS, ids=lambda editor: editor.name)
def test_every_editor_gets_a_whole_export(shots: list[ShotFiles], root: Path, editor: Editor):
    made = deliver(shots, wanted(editor.name, with_proxies=True, with_native=True), root)
    assert made.folder == root / f"Pond_{editor.name}"
    assert list(root.iterdir()) == [made.folder]
    assert bad(made.folder) == []
    readme = (made.folder / "README.txt").read_text()
    assert editor.title in readme and "(not made)" not in readme
    for timeline in made.timelines:
        assert timeline.name in readme
    manifest = json.loads((made.folder / "manifest.json").read_text())
    files = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*.*")}
    assert files == {*manifest["files"], "manifest.json"}
    assert all(len(Path(name).name) <= 64 and name.isascii() for name in files)
    assert len({Path(name).name.lower() for name in files}) == len(files)
    assert made.num_frames == 2 * int(33 * 24 / 16)


def test_a_take_is_conformed_to_the_timeline_and_never_retagged(shots: list[ShotFiles], root: Path):
    made = deliver(shots, wanted(rate=Fraction(24000, 1001)), root)
    (master,) = made.folder.glob("media/*_00000001.mov")
    clip = probe(master)
    assert (clip.frame_rate, clip.codec) == (Fraction(24000, 1001), "prores")
    assert clip.num_frames == int(33 * Fraction(24000, 1001) / 16)
    cells = read_cells(master)
    step = 16 / Fraction(24000, 1001)
    for index in (0, 1, 2, 7, 24, clip.num_frames - 1):
        exact = step * index
        nearest = int(exact) if exact - int(exact) <= Fraction(1, 2) else int(exact) + 1
        assert np.abs(cells[index] - bits(1, nearest)).max() < 0.1


@needs("melt")
@pytest.mark.parametrize("editor", ["kdenlive", "shotcut"])
def test_melt_plays_an_export(shots: list[ShotFiles], root: Path, editor: str):
    made = deliver(shots, wanted(editor, handles=3), root)
    project = next(path for path in made.timelines if path.suffix in (".kdenlive", ".mlt"))
    cells = play_in_melt(project)
    assert_cells(cells, made.num_frames)


@needs("blender")
def test_blender_plays_an_export(shots: list[ShotFiles], root: Path):
    made = deliver(shots, wanted("blender", handles=3), root)
    assert_cells(play_in_blender(made.timelines[0]), made.num_frames)


def assert_cells(cells: np.ndarray, num_frames: int) -> None:
    """Both takes without three frames at each end, of 49 that 33 become."""
    assert len(cells) == num_frames == 2 * (49 - 6)
    for index, shown in enumerate(cells):
        code, frame = (1, index) if index < 43 else (3, index - 43)
        exact = Fraction(16, 24) * (frame + 3)
        nearest = int(exact) if exact - int(exact) <= Fraction(1, 2) else int(exact) + 1
        assert np.abs(shown - bits(code, min(nearest, 32))).max() < 0.12, index


def test_takes_lie_beside_the_clip_or_disabled_over_it(shots: list[ShotFiles], root: Path):
    keys = deliver(shots, wanted(takes_as="keys"), root)
    timeline = otio.adapters.read_from_file(str(keys.folder / "Pond.otio"))
    first = next(iter(timeline.find_clips()))
    assert set(first.media_references()) == {"DEFAULT_MEDIA", "take_01"}
    tracks = deliver(shots, wanted(takes_as="tracks"), root)
    read = read_timeline(tracks.folder / "Pond.otio")
    assert [(used.track, used.is_enabled) for used in read.used] == [
        (1, True),
        (1, True),
        (2, False),
        (2, False),
    ]
    none = deliver(shots, wanted(takes_as="none"), root)
    assert len(list(none.folder.glob("media/*"))) == 2
    assert [made.folder.name for made in (keys, tracks, none)] == [
        "Pond_kdenlive",
        "Pond_kdenlive_v002",
        "Pond_kdenlive_v003",
    ]
    assert all(bad(made.folder) == [] for made in (keys, tracks, none))


def test_a_remade_clip_keeps_its_sound_timecode_and_handles(tmp_path: Path, root: Path):
    rate = Fraction(25)
    silent, source = tmp_path / "silent.mp4", tmp_path / "footage.mov"
    write_clip(silent, 9, 60, rate)
    tone = "sine=frequency=440:duration=2.4:sample_rate=48000"
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", silent),
            *("-f", "lavfi", "-i", tone, "-c:v", "copy", "-c:a", "pcm_s16le"),
            *("-timecode", "10:00:00:00", source),
        ],
        check=True,
    )
    remade = take(
        tmp_path, 4, rate=25, kind="clip", clip=Media.of(source).model_dump(), clip_start=10
    )
    made = deliver([ShotFiles("sh", remade)], wanted("resolve"), root)
    (master,) = made.folder.glob("*.mov")
    clip = probe(master)
    assert clip.has_audio and clip.num_frames == 33
    assert (clip.start_timecode, clip.frame_rate) == ("10:00:00:10", rate)
    assert bad(made.folder) == []


@pytest.fixture
def remade(tmp_path: Path) -> list[ShotFiles]:
    """A clip that sounds in every frame which it is, two takes of it, and one from a prompt."""
    rate = Fraction(25)
    footage, *_ = tones.write_clips(tmp_path / "footage", rate)
    clip = {"kind": "clip", "clip": Media.of(footage.path).model_dump(), "clip_start": 10}
    first, other = (take(tmp_path, code, rate=rate, number=code, **clip) for code in (1, 2))
    return [ShotFiles("sh1", first, (other,)), ShotFiles("sh2", take(tmp_path, 3, rate=rate))]


@needs("melt")
@pytest.mark.parametrize("editor", ["kdenlive", "shotcut"])
def test_a_remade_clip_is_heard_in_its_export(
    remade: list[ShotFiles], root: Path, editor: str
) -> None:
    made = deliver(remade, wanted(editor, handles=3, takes_as="tracks"), root)
    assert bad(made.folder) == []
    heard = hear_in_melt(next(p for p in made.timelines if p.suffix in (".kdenlive", ".mlt")))
    frames = [Heard() for _ in range(2 * 27)]
    for number in range(27):
        frames[number].tones[1, 10 + 3 + number] = 1
    assert tones.faults(heard, frames, Fraction(25), slack=0.5) == []


@pytest.mark.parametrize("editor", ["resolve", "premiere", "kdenlive", "avid", "archive"])
def test_the_verifier_hears_what_it_sees(remade: list[ShotFiles], root: Path, editor: str) -> None:
    made = deliver(remade, wanted(editor, handles=3, takes_as="tracks"), root)
    assert bad(made.folder) == []
    manifest = json.loads((made.folder / "manifest.json").read_text())
    sound = [manifest["cut"][number] for number in manifest["sound"]]
    assert [(used["track"], used["is_enabled"]) for used in sound] == [(1, True), (2, False)]


def test_the_verifier_hears_sound_that_was_moved(remade: list[ShotFiles], root: Path) -> None:
    made = deliver(remade, wanted("premiere", handles=3), root)
    timeline = made.folder / "Pond.xml"
    video, mark, audio = timeline.read_text().partition("<numOutputChannels>")
    timeline.write_text(video + mark + audio.replace("<in>3</in>", "<in>4</in>"))
    assert any("The sound of clip 1 of Pond.xml" in problem for problem in bad(made.folder))


def test_what_cannot_be_is_refused_before_anything_is_made(
    shots: list[ShotFiles], root: Path, tmp_path: Path
):
    for changes, message in (
        ({"handles": 25}, "too few"),
        ({"codec": "betacam"}, "no codec"),
        ({"start": "25:00"}, "25:00"),
    ):
        with pytest.raises(RequestError, match=message):
            deliver(shots, wanted(**changes), root)
    with pytest.raises(RequestError, match="no takes"):
        deliver([], wanted(), root)
    with pytest.raises(OutputError, match="no folder"):
        deliver(shots, wanted(), tmp_path / "nowhere")
    with shots[0].active.path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(MediaError, match="was changed"):
        deliver(shots, wanted(), root)
    assert list(root.iterdir()) == []


def test_a_timeline_of_picture_sequences_is_refused(shots: list[ShotFiles], root: Path):
    with pytest.raises(RequestError, match="picture sequences") as refused:
        deliver(shots, replace(wanted(), codec="exr"), root)
    assert "takes export" in refused.value.hint
    assert list(root.iterdir()) == []


def test_a_cancelled_export_leaves_nothing(shots: list[ShotFiles], root: Path):
    def stop(name: str, done: int, of: int) -> None:
        if done == 20:
            raise Cancelled

    with pytest.raises(Cancelled):
        deliver(shots, wanted(), root, on_stage=stop)
    assert list(root.iterdir()) == []


def test_the_verifier_sees_whatever_changed(shots: list[ShotFiles], root: Path):
    made = deliver(shots, wanted("premiere"), root)
    master = sorted(made.folder.glob("media/*.mov"))[0]
    timeline = made.folder / "Pond.xml"
    content, text = master.read_bytes(), timeline.read_text()

    master.write_bytes(content[:-1000])
    assert any("changed since" in problem for problem in bad(made.folder))
    master.unlink()
    assert any("is gone" in problem for problem in bad(made.folder))
    master.write_bytes(content)
    timeline.write_text(text.replace("<in>0</in>", "<in>1</in>", 1))
    assert any(problem.startswith("Clip 1 of Pond.xml") for problem in bad(made.folder))
    timeline.write_text(text)
    (made.folder / "media" / "stranger.mov").touch()
    assert bad(made.folder) == ["media/stranger.mov is not part of the export."]
    shutil.rmtree(made.folder / "media")
    assert len(bad(made.folder)) >= 4
    with pytest.raises(MediaError, match=r"no manifest\.json"):
        verify(root)


@given(st.text())
def test_words_become_names_that_every_system_takes(words: str):
    name = file_word(words)
    assert 1 <= len(name) <= 24
    assert name.isascii() and all(one.isalnum() or one == "-" for one in name)
