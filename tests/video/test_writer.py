"""A written video is whole, exact and repeatable, or it is not there at all."""

import ctypes
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from freeswim import output
from freeswim.errors import Cancelled, MediaError, OutputError, OutputExists, RequestError
from freeswim.video.reader import probe, read_frames
from freeswim.video.writer import check_output, write_video

WIDTH, HEIGHT = 64, 48
FILM = Fraction(24000, 1001)


def moving(num_frames: int, width: int = WIDTH, height: int = HEIGHT) -> Iterator[np.ndarray]:
    """A gradient that gets bluer."""
    frame = np.zeros((height, width, 3), np.uint16)
    frame[..., 0] = np.linspace(0, 65535, width)
    frame[..., 1] = np.linspace(0, 65535, height)[:, None]
    for index in range(num_frames):
        frame[..., 2] = index * 1000
        yield frame


def noise(num_frames: int, width: int, height: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    for _ in range(num_frames):
        yield rng.integers(0, 65536, (height, width, 3), np.uint16)


def write(path: Path, frames: Iterator[np.ndarray] | None = None, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "width": WIDTH,
        "height": HEIGHT,
        "frame_rate": FILM,
        "num_frames": 5,
        **changes,
    }
    write_video(path, moving(5) if frames is None else frames, **arguments)


def atoms(content: bytes) -> list[bytes]:
    names, start = [], 0
    while start < len(content):
        names.append(content[start + 4 : start + 8])
        start += int.from_bytes(content[start : start + 4])
    return names


def child_processes() -> list[str]:
    """The encoders among this process's children, ended ones nobody waited for too."""
    own = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [one for one in own if Path(f"/proc/{one}/comm").read_text().startswith("ffmpeg")]


# What is in the file


def test_frames_come_back_in_number_size_rate_and_picture(tmp_path: Path):
    path = tmp_path / "take.mp4"
    write(path)
    clip = probe(path)
    assert (clip.width, clip.height, clip.num_frames, clip.frame_rate) == (WIDTH, HEIGHT, 5, FILM)
    for read, sent in zip(read_frames(path), moving(5), strict=True):
        error = np.abs(read.astype(int) - sent) / 257  # in 8-bit codes
        assert error.mean() < 2 and error.max() < 16


@pytest.mark.parametrize("width, height", [(63, 48), (64, 47), (35, 21)])
def test_odd_sides_are_kept_with_whole_chroma(tmp_path: Path, width: int, height: int):
    path = tmp_path / "odd.mp4"
    write(path, moving(5, width, height), width=width, height=height)
    assert (probe(path).width, probe(path).height) == (width, height)
    with av.open(str(path)) as container:
        assert container.streams.video[0].format.name == "yuv444p"


def test_colours_are_tagged_bt709_in_stream_and_container(tmp_path: Path):
    path = tmp_path / "take.mp4"
    write(path)
    # colr atom: nclx, primaries 1, transfer 1, matrix 1, full range 0
    assert b"colrnclx\x00\x01\x00\x01\x00\x01\x00" in path.read_bytes()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        tags = (stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range)
        assert tags == (1, 1, 1, 1)
        assert (stream.profile, stream.format.name) == ("High", "yuv420p")


def test_red_is_written_with_the_bt709_matrix(tmp_path: Path):
    path = tmp_path / "red.mp4"
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    red[..., 0] = 65535
    write(path, iter([red]), num_frames=1)
    with av.open(str(path)) as container:
        planes = next(container.decode(video=0)).planes
        code = [int(np.frombuffer(bytes(plane), np.uint8)[0]) for plane in planes]
    assert np.abs(np.subtract(code, (63, 102, 240))).max() <= 1


def test_the_table_is_in_front_for_players_on_a_network(tmp_path: Path):
    write(tmp_path / "take.mp4")
    names = atoms((tmp_path / "take.mp4").read_bytes())
    assert names.index(b"moov") < names.index(b"mdat")


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(12345, 1007)])
@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_any_rational_rate_is_kept_exactly(tmp_path: Path, rate: Fraction, num_frames: int):
    path = tmp_path / "take.mp4"
    write(path, moving(num_frames), frame_rate=rate, num_frames=num_frames)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == rate


def test_the_same_frames_give_the_same_bytes(tmp_path: Path):
    digests = set()
    for name in ("a.mp4", "b.mp4"):
        write(
            tmp_path / name, noise(30, 256, 128), width=256, height=128, num_frames=30, comment="x"
        )
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    "comment",
    [
        json.dumps({"prompt": 'a "fox"; a=b # c \\ d\n é 漢 😀'}, ensure_ascii=False, indent=1),
        "=;#\\\n\r\n\r\\\\;tail ",
        " ;FFMETADATA1\n[CHAPTER]\ntitle=no",
        "\\",
        json.dumps({"long": "x=;" * 150_000}),
    ],
)
def test_a_comment_comes_back_byte_for_byte(tmp_path: Path, comment: str):
    write(tmp_path / "take.mp4", comment=comment)
    with av.open(str(tmp_path / "take.mp4")) as container:
        assert container.metadata["comment"] == comment
        assert "title" not in container.metadata and not container.chapters()


def test_without_a_comment_nothing_is_said(tmp_path: Path):
    write(tmp_path / "take.mp4")
    with av.open(str(tmp_path / "take.mp4")) as container:
        assert container.metadata.keys() <= {"major_brand", "minor_version", "compatible_brands"}


def test_progress_counts_the_frames(tmp_path: Path):
    seen: list[int] = []
    write(tmp_path / "take.mp4", on_frame=seen.append)
    assert seen == [1, 2, 3, 4, 5]


def test_everybody_may_read_the_file_that_the_system_lets_read(tmp_path: Path):
    (tmp_path / "plain").touch()
    write(tmp_path / "take.mp4")
    assert (tmp_path / "take.mp4").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "name", ["-y.mp4", "%03d.mp4", "http:a.mp4", "📽 é'.MP4", "a" * 251 + ".mp4"]
)
def test_a_strange_name_is_only_a_name(tmp_path: Path, name: str):
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


# Requests that are refused


@pytest.mark.parametrize(
    ("changes", "field", "hint"),
    [
        ({"height": 1}, "height 1", "2"),
        ({"width": 0}, "width 0", "2"),
        ({"width": 20001}, "width 20001", "16384"),
        ({"frame_rate": Fraction(0)}, "frame_rate 0", "24"),
        ({"num_frames": 0}, "num_frames 0", "1"),
        ({"comment": "a\0b"}, "comment", "Remove"),
    ],
)
def test_what_cannot_be_encoded_is_refused(
    tmp_path: Path, changes: dict[str, Any], field: str, hint: str
):
    with pytest.raises(RequestError, match=field) as caught:
        write(tmp_path / "take.mp4", **changes)
    assert hint in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_frames", [4, 6])
def test_more_or_fewer_frames_than_announced_are_refused(tmp_path: Path, num_frames: int):
    with pytest.raises(MediaError, match=r"frames"):
        write(tmp_path / "take.mp4", num_frames=num_frames)
    assert list(tmp_path.iterdir()) == [] and child_processes() == []


@pytest.mark.parametrize(
    "frame",
    [np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((WIDTH, HEIGHT, 3), np.uint16)],
)
def test_a_frame_of_another_kind_is_refused(tmp_path: Path, frame: np.ndarray):
    with pytest.raises(MediaError, match="Frame 0"):
        write(tmp_path / "take.mp4", iter([frame]))
    assert list(tmp_path.iterdir()) == []


# Places that are refused


def test_a_file_that_is_there_stays_unless_overwriting_is_allowed(tmp_path: Path):
    path = tmp_path / "take.mp4"
    path.write_text("precious")
    for refused in (lambda: write(path), lambda: check_output(path, overwrite=False)):
        with pytest.raises(OutputExists, match=r"take\.mp4"):
            refused()
    assert path.read_text() == "precious"
    write(path, overwrite=True)
    assert probe(path).num_frames == 5
    assert list(tmp_path.iterdir()) == [path]


def test_a_dangling_link_counts_as_a_file_that_is_there(tmp_path: Path):
    (tmp_path / "take.mp4").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExists):
        check_output(tmp_path / "take.mp4", overwrite=False)


def test_a_file_that_appears_during_the_work_is_not_replaced(tmp_path: Path):
    path = tmp_path / "take.mp4"
    with pytest.raises(OutputExists):
        write(path, on_frame=lambda sent: path.write_text("precious") and None)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_without_hard_links_the_name_is_claimed_and_then_filled(tmp_path: Path):
    part, path = tmp_path / "part", tmp_path / "take.mp4"
    part.write_text("video")
    output._claim_and_replace(part, path)
    assert path.read_text() == "video" and not part.exists()
    part.write_text("other")
    with pytest.raises(OutputExists):
        output._claim_and_replace(part, path)
    assert path.read_text() == "video"
    with pytest.raises(FileNotFoundError):
        output._claim_and_replace(tmp_path / "gone", tmp_path / "new.mp4")
    assert not (tmp_path / "new.mp4").exists()


def test_places_without_room_for_a_file_are_refused_before_any_work(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    places = {
        tmp_path / "missing" / "take.mp4": "no folder",
        tmp_path / "file" / "take.mp4": "no folder",
        tmp_path / "folder.mp4": "is a folder",
        tmp_path / "take.avi": "does not end in .mp4",
        tmp_path / "take": "does not end in .mp4",
        tmp_path / ("a" * 300 + ".mp4"): os.strerror(errno.ENAMETOOLONG),
        Path("/proc/take.mp4"): "cannot be written",
    }
    for path, message in places.items():
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=message) as caught:
                check_output(path, overwrite=overwrite)
            assert caught.value.hint
            with pytest.raises(OutputError, match=message):
                write(path, overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.mp4"]


# Disks that fail

_LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT = 1, 32


def _mount(folder: Path, flags: int = 0) -> None:
    if _LIBC.mount(b"tmpfs", bytes(folder), b"tmpfs", flags, b"size=1m"):
        pytest.skip(f"mounting is not permitted: {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    _mount(folder)
    yield folder
    assert _LIBC.umount(bytes(folder)) == 0


def test_a_full_disk_is_an_output_error_and_leaves_nothing(small_disk: Path):
    with pytest.raises(OutputError, match="No space left on device") as caught:
        write(small_disk / "take.mp4", noise(60, 512, 256), width=512, height=256, num_frames=60)
    assert "Free more than" in caught.value.hint
    assert list(small_disk.iterdir()) == [] and child_processes() == []


def test_a_disk_too_full_for_the_comment_leaves_nothing(small_disk: Path):
    with pytest.raises(OutputError, match="No space left on device"):
        write(small_disk / "take.mp4", comment="x" * 2_000_000)
    assert list(small_disk.iterdir()) == []


def test_a_folder_on_a_read_only_disk_is_refused(small_disk: Path):
    _mount(small_disk, MS_REMOUNT | MS_RDONLY)
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(small_disk / "take.mp4", overwrite=False)


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A child that can write videos; `write` and `noise` are this file's."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    start += "from test_writer import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_limit_on_the_size_of_files_is_an_output_error(tmp_path: Path):
    script = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write(Path(sys.argv[1]), noise(60, 512, 256), width=512, height=256, num_frames=60)
except OutputError as error:
    print(error.message, child_processes())
"""
    child = python(script, str(tmp_path / "take.mp4"))
    said, complained = child.communicate()
    assert os.strerror(errno.EFBIG) in said and said.rstrip().endswith("[]"), complained
    assert list(tmp_path.iterdir()) == []


# Work that is stopped


def _stop_at_three(error: BaseException) -> Callable[[int], None]:
    def on_frame(sent: int) -> None:
        if sent == 3:
            raise error

    return on_frame


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), OSError("disk of the source")])
def test_whatever_stops_the_work_leaves_nothing(tmp_path: Path, error: BaseException):
    with pytest.raises(type(error)) as caught:
        write(tmp_path / "take.mp4", on_frame=_stop_at_three(error))
    assert caught.value is error
    assert list(tmp_path.iterdir()) == [] and child_processes() == []


def test_an_error_in_the_frames_is_raised_as_it_is(tmp_path: Path):
    def failing() -> Iterator[np.ndarray]:
        yield from moving(2)
        raise OSError(errno.ENOSPC, "of the source")

    with pytest.raises(OSError, match="of the source"):
        write(tmp_path / "take.mp4", failing())
    assert list(tmp_path.iterdir()) == [] and child_processes() == []


def test_a_stopped_overwrite_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "take.mp4"
    write(path)
    before = path.read_bytes()
    with pytest.raises(Cancelled):
        write(path, overwrite=True, on_frame=_stop_at_three(Cancelled()))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_encoder_that_dies_is_a_media_error(tmp_path: Path):
    def shoot(sent: int) -> None:
        if sent == 2:
            os.kill(int(child_processes()[0]), signal.SIGKILL)

    with pytest.raises(MediaError, match="exit status -9"):
        write(
            tmp_path / "take.mp4",
            noise(60, 512, 256),
            width=512,
            height=256,
            num_frames=60,
            on_frame=shoot,
        )
    assert list(tmp_path.iterdir()) == [] and child_processes() == []


def test_an_encoder_that_refuses_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refuses = tmp_path / "ffmpeg"
    refuses.write_text("#!/bin/sh\necho first >&2\necho 'Unknown encoder libx264' >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(refuses))
    with pytest.raises(MediaError, match="Unknown encoder libx264"):
        write(tmp_path / "take.mp4")
    assert list(tmp_path.iterdir()) == [refuses]


def test_interrupting_the_whole_terminal_leaves_nothing(tmp_path: Path):
    script = """
def endless():
    while True:
        yield from noise(4, 64, 48)

try:
    write(Path(sys.argv[1]), endless(), num_frames=10**9,
          on_frame=lambda sent: sent == 4 and print(*child_processes(), flush=True))
except KeyboardInterrupt:
    print("stopped", child_processes())
"""
    child = python(script, str(tmp_path / "take.mp4"))
    assert child.stdout is not None
    encoder = child.stdout.readline().strip()
    assert encoder.isdigit() and os.getpgid(int(encoder)) != os.getpgid(child.pid)
    os.killpg(child.pid, signal.SIGINT)
    said, complained = child.communicate()
    assert said == "stopped []\n", complained
    assert list(tmp_path.iterdir()) == []
