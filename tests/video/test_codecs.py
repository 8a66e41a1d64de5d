"""Every row of the codec table: the file that it makes is what the row says, by other programs too."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest

from freeswim.errors import Cancelled, MediaError, OutputError, OutputExists, RequestError
from freeswim.video.codecs import CODECS, Codec, estimated_bytes, find_codec
from freeswim.video.encoder import usable_codec, usable_encoders
from freeswim.video.reader import probe, read_frames
from freeswim.video.writer import Audio, write_video

WIDTH, HEIGHT, FRAMES = 256, 144, 6
FILM = Fraction(24000, 1001)
FILES = [codec for codec in CODECS.values() if not codec.is_sequence]
SEQUENCES = [codec for codec in CODECS.values() if codec.is_sequence]
LEAST_DB = {  # of smooth pictures; halved ones are not compared
    "h264": 40,
    "h265": 40,
    "prores-hq": 50,
    "prores-4444": 50,
    "dnxhr-hqx": 48,
    "dnxhr-hqx-mxf": 48,
    "png16": 200,
    "exr": 65,
}

needs_ffprobe = pytest.mark.skipif(
    shutil.which("ffprobe") is None, reason="needs the system package ffmpeg"
)
by_name = pytest.mark.parametrize("codec", FILES, ids=lambda codec: codec.name)


def ramp(width: int = WIDTH, height: int = HEIGHT, frames: int = FRAMES) -> Iterator[np.ndarray]:
    """Smooth pictures with every level from black to white, that move."""
    across = np.linspace(0, 1, width, dtype=np.float64)[None, :]
    down = np.linspace(0, 1, height, dtype=np.float64)[:, None]
    for frame in range(frames):
        level = (across + down / width) * 0.96 + 0.005 * frame
        picture = np.stack([level, level, level], axis=-1).clip(0, 1)
        yield (picture * 65535 + 0.5).astype(np.uint16)


def write(folder: Path, codec: Codec, **changes: Any) -> Path:
    path = folder / ("shot" if codec.is_sequence else f"shot{codec.extension}")
    facts: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "num_frames": FRAMES}
    facts |= {"frame_rate": FILM, "codec": codec.name} | changes
    size = facts["width"], facts["height"], facts["num_frames"]
    write_video(path, facts.pop("frames", None) or ramp(*size), **facts)
    return path


def ffprobe(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [
            *("ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format"),
            *("-of", "json", f"file:{path}"),
        ],
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


@needs_ffprobe
@by_name
def test_another_program_finds_what_the_row_says(tmp_path: Path, codec: Codec):
    comment = 'a "prompt" = ; # \\ Köi\nseed'
    path = write(tmp_path, codec, comment=comment, start_timecode="01:00:00:00", reel="FS000012")
    said = ffprobe(path)
    picture = next(one for one in said["streams"] if one["codec_type"] == "video")
    size = (picture["width"], picture["height"])
    assert size == codec.size(WIDTH, HEIGHT)
    assert picture["r_frame_rate"] == "24000/1001"
    assert int(picture["nb_read_frames"]) == FRAMES
    assert picture["pix_fmt"] == codec.even.format
    tags = ("color_primaries", "color_transfer", "color_space", "color_range")
    assert [picture[tag] for tag in tags] == ["bt709", "bt709", "bt709", "tv"]
    found = {**said["format"].get("tags", {})}
    for stream in said["streams"]:
        found |= stream.get("tags", {})
    assert found["timecode"] == "01:00:00:00"
    if codec.carries_comment:
        assert found["comment"] == comment
    if codec.carries_reel:
        assert found["reel_name"] == "FS000012"
    assert b"colr" in path.read_bytes() or codec.extension == ".mxf"


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_pictures_come_back(tmp_path: Path, codec: Codec):
    path = write(tmp_path, codec)
    rate = {"frame_rate": FILM} if codec.is_sequence else {}
    clip = probe(path, **rate)
    assert (clip.num_frames, clip.frame_rate) == (FRAMES, FILM)
    assert (clip.width, clip.height) == codec.size(WIDTH, HEIGHT)
    if codec.scale > 1:
        return
    noise = [
        np.mean((sent.astype(float) - came) ** 2)
        for sent, came in zip(ramp(), read_frames(path, **rate), strict=True)
    ]
    loss = float(np.mean(noise))
    assert loss == 0 or 10 * np.log10(65535**2 / loss) > LEAST_DB[codec.name]


@pytest.mark.parametrize(
    "codec", [one for one in FILES if one.bits > 8 and one.scale == 1], ids=str
)
def test_ten_bits_are_real(tmp_path: Path, codec: Codec):
    path = write(tmp_path, codec, width=1024, num_frames=1)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        luma = np.frombuffer(frame.planes[0], "<u2").reshape(-1, frame.planes[0].line_size // 2)
    assert len(np.unique(luma[:, :1024])) >= 700


@pytest.mark.parametrize(
    "codec", [one for one in FILES if one.bits > 8], ids=lambda codec: codec.name
)
def test_red_is_the_red_of_bt709(tmp_path: Path, codec: Codec):
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    red[..., 0] = 65535
    path = write(tmp_path, codec, frames=[red], num_frames=1)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    deep = 2 if frame.format.name == "yuv444p12le" else 0
    for plane, level in zip(frame.planes, (250, 409, 960), strict=True):
        middle = np.frombuffer(plane, "<u2").reshape(-1, plane.line_size // 2)
        found = middle[plane.height // 2, plane.width // 2] >> deep
        assert abs(int(found) - level) <= 2


def test_the_rate_of_large_pictures_is_read_back(tmp_path: Path):
    size = {"width": 3840, "height": 2160, "num_frames": 2}
    clip = probe(write(tmp_path, find_codec("dnxhr-hqx-mxf"), **size))
    assert (clip.frame_rate, clip.num_frames) == (FILM, 2)


@needs_ffprobe
def test_drop_frame_timecode_is_written(tmp_path: Path):
    path = write(
        tmp_path,
        find_codec("prores-hq"),
        frame_rate=Fraction(30000, 1001),
        start_timecode="01:00:59;29",
    )
    assert probe(path).start_timecode == "01:00:59;29"


@by_name
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, codec: Codec):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    assert write(first, codec).read_bytes() == write(second, codec).read_bytes()


@pytest.mark.parametrize("name", ["h264", "h265", "prores-4444", "png16", "exr"])
def test_odd_sizes_are_kept(tmp_path: Path, name: str):
    codec = find_codec(name)
    path = write(tmp_path, codec, width=255, height=143)
    clip = probe(path, frame_rate=FILM) if codec.is_sequence else probe(path)
    assert (clip.width, clip.height) == (255, 143)


@pytest.mark.parametrize("name", ["prores-hq", "dnxhr-hqx"])
def test_odd_sizes_that_cannot_be_are_refused(tmp_path: Path, name: str):
    with pytest.raises(RequestError, match="must be even"):
        write(tmp_path, find_codec(name), width=257)
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_small_for_a_codec_is_refused(tmp_path: Path):
    with pytest.raises(RequestError) as refused:
        write(tmp_path, find_codec("dnxhr-hqx"), width=64, height=64)
    assert "256x120" in refused.value.hint


@pytest.mark.parametrize("codec", SEQUENCES, ids=lambda codec: codec.name)
def test_a_sequence_is_a_whole_folder_or_none(tmp_path: Path, codec: Codec):
    folder = write(tmp_path, codec)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"shot.{number:06d}{codec.extension}" for number in range(1, FRAMES + 1)]
    with pytest.raises(OutputExists):
        write(tmp_path, codec)

    def stop(sent: int) -> None:
        if sent == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        write(tmp_path / "shot", codec, on_frame=stop)
    assert sorted(path.name for path in folder.iterdir()) == names


@by_name
def test_a_cancelled_or_short_video_leaves_nothing(tmp_path: Path, codec: Codec):
    def stop(sent: int) -> None:
        if sent == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        write(tmp_path, codec, on_frame=stop)
    with pytest.raises(MediaError, match="5 frames came"):
        write(tmp_path, codec, frames=ramp(frames=5))
    assert list(tmp_path.iterdir()) == []


def sound(path: Path, seconds: float) -> Path:
    tone = f"sine=frequency=1000:duration={seconds}:sample_rate=48000"
    black = f"color=c=black:s=64x64:r=24:d={seconds}"
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", black),
            *("-f", "lavfi", "-i", tone, "-c:v", "libx264", "-c:a", "pcm_s16le", path),
        ],
        check=True,
    )
    return path


@pytest.mark.parametrize("seconds", [0.3, 5.0])
@pytest.mark.parametrize("codec", [one for one in FILES if one.sound], ids=lambda codec: codec.name)
def test_sound_is_as_long_as_the_pictures(tmp_path: Path, codec: Codec, seconds: float):
    audio = Audio(sound(tmp_path / "source.mov", seconds), offset_s=Fraction(1, 10))
    path = write(tmp_path, codec, num_frames=24, frame_rate=Fraction(24), audio=audio)
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert abs(samples - 48000) <= 2048  # AAC fills its last packet
    assert probe(path).num_frames == 24


def test_labels_that_are_none_are_refused(tmp_path: Path):
    codec = find_codec("prores-hq")
    for changes, message in (
        ({"start_timecode": "1:00"}, "no timecode"),
        ({"start_timecode": "01:00:00:00 -y"}, "no timecode"),
        ({"reel": "-i /etc/passwd"}, "no name of a reel"),
        ({"comment": "a\0b"}, "NUL"),
    ):
        with pytest.raises(RequestError, match=message):
            write(tmp_path, codec, **changes)
    with pytest.raises(RequestError, match="no codec 'betacam'"):
        find_codec("betacam")
    with pytest.raises(OutputError, match=r"does not end in \.mov"):
        write_video(
            tmp_path / "a.mp4",
            ramp(),
            codec="prores-hq",
            width=WIDTH,
            height=HEIGHT,
            frame_rate=FILM,
            num_frames=FRAMES,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_noise_is_no_larger_than_what_is_asked_of_the_disk(tmp_path: Path, codec: Codec):
    dice = np.random.default_rng(0)
    frames = [dice.integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16) for _ in range(FRAMES)]
    path = write(tmp_path, codec, frames=iter(frames))
    files = path.iterdir() if path.is_dir() else [path]
    assert sum(file.stat().st_size for file in files) <= estimated_bytes(
        codec, WIDTH, HEIGHT, FRAMES
    )


def test_hardware_is_used_where_a_frame_proves_it(tmp_path: Path):
    working = usable_encoders(256, 144)
    for name, family in (("h264-hardware", "h264"), ("h265-hardware", "hevc")):
        if any(encoder.startswith(family) for encoder in working):
            assert usable_codec(name, 256, 144).name == name
        else:
            with pytest.raises(RequestError, match="No graphics hardware here"):
                write_video(
                    tmp_path / "a.mp4",
                    ramp(),
                    codec=name,
                    width=WIDTH,
                    height=HEIGHT,
                    frame_rate=FILM,
                    num_frames=FRAMES,
                )
