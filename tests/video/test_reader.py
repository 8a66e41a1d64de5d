"""Frames come out exact, in order and in the right colours; hostile files do not get in."""

import gc
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import hostile_files
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from freeswim.errors import MediaError, RequestError
from freeswim.video.reader import probe, read_frames, read_image

MakeVideo = Callable[..., Path]
Canary = tuple[list[str], str, Path]


def run_ffmpeg(*arguments: str, stdin: bytes = b"") -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    subprocess.run(command, input=stdin, check=True)


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """make(name, *output arguments, source=lavfi graph) -> path; 24 moving frames by default."""

    def make(name: str, *arguments: str, source: str = "") -> Path:
        path = tmp_path / name
        graph = source or "testsrc2=s=64x48:r=24000/1001,trim=end_frame=24"
        run_ffmpeg("-f", "lavfi", "-i", graph, *arguments, str(path))
        return path

    return make


X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "8", "-bf", "3")
KINDS = {
    "h264.mp4": X264,
    "fragmented.mp4": (*X264, "-movflags", "frag_keyframe+empty_moov"),
    "h264.mkv": X264,
    "h264.ts": X264,
    "prores.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
    "dnxhr.mxf": ("-c:v", "dnxhd", "-profile:v", "dnxhr_lb", "-s", "256x128"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", "2"),
    "vp8.webm": ("-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "100k"),
}

X265 = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params")
UNEVEN = ("-vf", r"select='not(between(n,5,6)+eq(n,9)+eq(n,17))'", "-fps_mode", "vfr")
# Where a seek lands on pictures that need others, or time stamps mislead.
HARD_KINDS = {
    "open.mp4": (*X264, "-x264-params", "open-gop=1:scenecut=0"),
    "open.mkv": (*X264, "-x264-params", "open-gop=1:scenecut=0"),
    "open_hevc.mp4": (*X265, "log-level=error:keyint=8:open-gop=1:bframes=4"),
    "b_frames.mxf": (*X264, "-s", "720x576", "-r", "24000/1001"),  # times in order of decoding
    "mpeg2.mxf": ("-c:v", "mpeg2video", "-g", "8", "-bf", "2", "-s", "128x96"),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-g", "8", "-bf", "2"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-g", "8"),
    "av1.mp4": ("-c:v", "libsvtav1", "-g", "8"),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-g", "8", "-bf", "2"),
    "uneven.mp4": (*UNEVEN, *X264),
    "uneven_fragmented.mp4": (*UNEVEN, *X264, "-movflags", "frag_keyframe+empty_moov"),
    "uneven.mkv": (*UNEVEN, *X264),
    "uneven.ts": (*UNEVEN, *X264),
    "uneven.webm": (*UNEVEN, *KINDS["vp8.webm"]),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_container_gives_its_exact_rate_and_every_frame(make_video: MakeVideo, name: str):
    path = make_video(name, *KINDS[name])
    clip = probe(path)
    frames = list(read_frames(path))
    assert (clip.frame_rate, clip.num_frames) == (Fraction(24000, 1001), 24)
    assert len(frames) == 24
    assert frames[0].shape == (clip.height, clip.width, 3)
    assert frames[0].dtype == np.uint16


@pytest.mark.parametrize("name", [*KINDS, *HARD_KINDS])
def test_a_range_is_the_same_frames_as_the_whole_clip_has(make_video: MakeVideo, name: str):
    path = make_video(name, *{**KINDS, **HARD_KINDS}[name])
    whole = list(read_frames(path))
    assert len(whole) == probe(path).num_frames == 24
    for start in (1, 2, 5, 7, 8, 13, 18, 23):
        part = list(read_frames(path, start=start, num_frames=min(2, 24 - start)))
        np.testing.assert_array_equal(part, whole[start : start + 2])


def test_frames_cut_away_by_an_edit_list_are_neither_counted_nor_shown(
    make_video: MakeVideo, tmp_path: Path
):
    whole, cut = make_video("whole.mp4", *X264), tmp_path / "cut.mp4"
    run_ffmpeg("-ss", str(12 * 1001 / 24000), "-i", str(whole), "-c", "copy", str(cut))
    assert probe(cut).num_frames == 12
    np.testing.assert_array_equal(list(read_frames(cut)), list(read_frames(whole))[12:])
    np.testing.assert_array_equal(next(read_frames(cut, start=5)), list(read_frames(cut))[5])


def test_a_range_of_a_cut_out_of_open_groups_is_the_same_frames(
    make_video: MakeVideo, tmp_path: Path
):
    for name in ("open.mp4", "open_hevc.mp4"):
        whole, cut = make_video(name, *HARD_KINDS[name]), tmp_path / f"cut_{name}"
        run_ffmpeg("-ss", "0.4", "-i", str(whole), "-t", "0.5", "-c", "copy", str(cut))
        frames = list(read_frames(cut))
        for start in range(0, len(frames), 3):
            np.testing.assert_array_equal(next(read_frames(cut, start=start)), frames[start])


# Time


def grey_level(frame: np.ndarray) -> int:
    """Number of the picture, of clips whose picture i is grey 16 + 8 i of 8 bits."""
    return round((float(frame.mean()) * 219 / 65535) / 8)


COUNTED = "color=s=64x48:r={rate},format=yuv420p,geq=lum='16+8*N':cb=128:cr=128,trim=end_frame=24"


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven_fragmented.mp4", "uneven.mkv", "uneven.ts"])
def test_uneven_pictures_are_shown_when_they_are_due(make_video: MakeVideo, name: str):
    path = make_video(name, *HARD_KINDS[name], source=COUNTED.format(rate=24))
    clip = probe(path)
    assert (clip.is_variable, clip.frame_rate, clip.num_frames) == (True, 24, 24)
    held = {5: 4, 6: 4, 9: 8, 17: 16}
    levels = [grey_level(frame) for frame in read_frames(path)]
    assert levels == [held.get(index, index) for index in range(24)]


def test_uneven_pictures_are_shown_at_the_rate_asked_for(make_video: MakeVideo):
    path = make_video("uneven.mp4", *HARD_KINDS["uneven.mp4"], source=COUNTED.format(rate=24))
    half, double = Fraction(12), Fraction(48)
    assert (probe(path, frame_rate=half).num_frames, probe(path, frame_rate=half).frame_rate) == (
        12,
        12,
    )
    levels = [grey_level(frame) for frame in read_frames(path, frame_rate=double)]
    held = {5: 4, 6: 4, 9: 8, 17: 16}
    # a picture whose time is within half a frame is shown
    assert levels[::2] == [held.get(index, index) for index in range(24)]
    assert len(levels) == 48
    part = [grey_level(f) for f in read_frames(path, start=9, num_frames=5, frame_rate=double)]
    assert part == levels[9:14]


def test_an_even_clip_is_shown_at_the_rate_asked_for(make_video: MakeVideo):
    path = make_video("even.mp4", *X264, source=COUNTED.format(rate=24))
    levels = [grey_level(frame) for frame in read_frames(path, frame_rate=Fraction(48))]
    assert levels == [index // 2 for index in range(48)]
    fewer = [grey_level(frame) for frame in read_frames(path, frame_rate=Fraction(8))]
    assert fewer == [1, 4, 7, 10, 13, 16, 19, 22]
    clip = probe(path, frame_rate=Fraction(8))
    assert (clip.frame_rate, clip.num_frames, clip.is_variable) == (8, 8, False)
    with pytest.raises(RequestError, match="frame_rate 0"):
        probe(path, frame_rate=Fraction(0))


def test_times_that_tremble_by_less_than_half_a_frame_change_nothing(make_video: MakeVideo):
    shaken = ("-vf", "setpts='PTS+0.3/(24*TB)*mod(N,2)'", "-fps_mode", "passthrough")
    for name in ("shaken.mp4", "shaken.mkv"):
        path = make_video(name, *shaken, *X264, source=COUNTED.format(rate=24))
        assert [grey_level(frame) for frame in read_frames(path)] == list(range(24))
        assert not probe(path).is_variable


@pytest.mark.parametrize("rate", ["24", "25", "30000/1001", "60000/1001", "24000/1001"])
def test_millisecond_times_still_give_the_exact_rate(make_video: MakeVideo, rate: str):
    path = make_video("clip.mkv", *X264, source=f"testsrc2=s=32x32:r={rate},trim=end_frame=7")
    assert probe(path).frame_rate == Fraction(rate)


def test_frames_that_the_clip_does_not_have_are_refused(make_video: MakeVideo):
    path = make_video("clip.mp4", *X264)
    for start, num_frames in ((24, None), (-1, 1), (0, 25), (20, 5), (0, 0)):
        with pytest.raises(RequestError, match="24 frames"):
            read_frames(path, start=start, num_frames=num_frames)


# Colour

WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}


def expected_rgb(code: tuple[int, ...], bits: int, matrix: str, is_full: bool) -> np.ndarray:
    """ITU-T H.273, written out plainly."""
    scale, top = 2 ** (bits - 8), 2**bits - 1
    y = code[0] / top if is_full else (code[0] - 16 * scale) / (219 * scale)
    cb, cr = ((c - 128 * scale) / (top if is_full else 224 * scale) for c in code[1:])
    kr, kb = WEIGHTS[matrix]
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip([red, green, blue], 0, 1) * 65535


def flat_video(
    path: Path, code: tuple[int, ...], pixel_format: str, size: tuple[int, int], *tags: str
) -> Path:
    """One lossless frame of one Y'CbCr code value."""
    width, height = size
    dtype = "<u2" if pixel_format.endswith("le") else "u1"
    chroma_area = {"0": 4, "2": 2, "4": 1}[pixel_format[5]]
    areas = (width * height, width * height // chroma_area, width * height // chroma_area)
    raw = b"".join(
        np.full(area, value, dtype).tobytes() for value, area in zip(code, areas, strict=True)
    )
    raw_format = ("-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{width}x{height}", "-r", "24")
    # Tags on one side only would make ffmpeg convert the values.
    run_ffmpeg(*raw_format, *tags, "-i", "-", "-c:v", "ffv1", *tags, str(path), stdin=raw)
    return path


def tags(matrix: str, color_range: str) -> tuple[str, ...]:
    return ("-colorspace", matrix, "-color_range", color_range)


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p"])
@pytest.mark.parametrize("color_range", ["tv", "pc"])
def test_tagged_colours_convert_as_the_standard_says(
    tmp_path: Path, matrix: str, pixel_format: str, color_range: str
):
    bits = {"10le": 10, "12le": 12, "420p": 8}[pixel_format[-4:]]
    for code in ((250, 409, 960), (940, 512, 512), (64, 512, 512), (500, 400, 600)):
        scaled = tuple((value << 2) >> (12 - bits) for value in code)
        path = flat_video(
            tmp_path / "flat.mkv", scaled, pixel_format, (64, 32), *tags(matrix, color_range)
        )
        frame = next(read_frames(path))
        expected = expected_rgb(scaled, bits, matrix, color_range == "pc")
        assert np.abs(frame.reshape(-1, 3) - expected).max() <= 1


def test_ten_bit_red_of_bt709_is_red(tmp_path: Path):
    code, size = (250, 409, 960), (64, 32)
    path = flat_video(tmp_path / "red.mkv", code, "yuv422p10le", size, *tags("bt709", "tv"))
    np.testing.assert_array_equal(next(read_frames(path))[5, 7], [65517, 0, 0])


@pytest.mark.parametrize(("height", "matrix"), [(576, "smpte170m"), (720, "bt709")])
def test_untagged_video_is_bt601_below_720_lines_and_bt709_from_there(
    tmp_path: Path, height: int, matrix: str
):
    path = flat_video(tmp_path / "untagged.mkv", (120, 90, 170), "yuv420p", (16, height))
    expected = expected_rgb((120, 90, 170), 8, matrix, is_full=False)
    assert np.abs(next(read_frames(path))[0, 0] - expected).max() <= 1


@pytest.mark.parametrize("pixel_format", ["gbrp", "gbrp10le", "gbrp12le", "gbrp16le", "bgra"])
def test_rgb_video_reaches_full_white_and_exact_black(tmp_path: Path, pixel_format: str):
    bits = int(pixel_format[4:-2]) if pixel_format.endswith("le") else 8
    num_values = 32 * 32 * (4 if pixel_format == "bgra" else 3)
    values = np.zeros((2, num_values), "<u2" if bits > 8 else "u1")
    values[1] = 2**bits - 1
    raw_format = ("-f", "rawvideo", "-pix_fmt", pixel_format, "-s", "32x32", "-r", "24")
    path = tmp_path / "rgb.mkv"
    run_ffmpeg(*raw_format, "-i", "-", "-c:v", "ffv1", str(path), stdin=values.tobytes())
    assert [np.unique(frame).tolist() for frame in read_frames(path)] == [[0], [65535]]


# Geometry


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (180, 2), (270, 3)])
def test_rotation_is_applied(make_video: MakeVideo, tmp_path: Path, degrees: int, quarters: int):
    flat, turned = make_video("flat.mp4", *X264), tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", str(degrees), "-i", str(flat), "-c", "copy", str(turned))
    clip = probe(turned)
    assert (clip.width, clip.height) == ((64, 48) if quarters == 2 else (48, 64))
    expected = np.rot90(next(read_frames(flat)), quarters)  # both counter-clockwise
    np.testing.assert_array_equal(next(read_frames(turned)), expected)


def test_a_mirrored_video_is_mirrored(make_video: MakeVideo, tmp_path: Path):
    flat, mirrored = make_video("flat.mp4", *X264), tmp_path / "mirrored.mp4"
    run_ffmpeg("-display_hflip", "-i", str(flat), "-c", "copy", str(mirrored))
    np.testing.assert_array_equal(next(read_frames(mirrored)), next(read_frames(flat))[:, ::-1])


def test_anamorphic_video_is_stretched_to_square_pixels(make_video: MakeVideo):
    path = make_video("wide.mp4", *X264, "-vf", "setsar=4/3")
    clip = probe(path)
    assert (clip.width, clip.height) == (85, 48)
    assert next(read_frames(path)).shape == (48, 85, 3)


# Origin


@pytest.mark.parametrize("name", ["tc.mov", "tc.mp4", "tc.mkv", "tc.mxf"])
def test_source_timecode_is_read(make_video: MakeVideo, name: str):
    timecode = ("-timecode", "10:20:30:12") if name != "tc.mkv" else ()
    kind = KINDS["dnxhr.mxf"] if name == "tc.mxf" else X264
    path = make_video(name, *kind, *timecode, "-metadata", "timecode=10:20:30:12")
    assert probe(path).start_timecode == "10:20:30:12"


def test_drop_frame_timecode_keeps_its_semicolon(make_video: MakeVideo):
    graph = "testsrc2=s=64x48:r=30000/1001,trim=end_frame=4"
    path = make_video("drop.mov", *X264, "-timecode", "01:00:00;02", source=graph)
    assert probe(path).start_timecode == "01:00:00;02"


def test_the_reel_is_read_and_what_is_no_timecode_is_not(make_video: MakeVideo):
    reel = ("-timecode", "01:00:00:00", "-metadata:s:v:0", "reel_name=FS000001")
    assert probe(make_video("reel.mov", *X264, *reel)).reel == "FS000001"
    plain = probe(make_video("odd.mkv", *X264, "-metadata", "timecode=soon\n-y"))
    assert (plain.start_timecode, plain.reel) == ("", "")


def test_what_a_clip_is_made_of_is_told(make_video: MakeVideo, tmp_path: Path):
    tagged = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709")
    master = make_video("master.mov", *KINDS["prores.mov"], "-vf", SET_TAGS, *tagged)
    clip = probe(master)
    assert (clip.codec, clip.bit_depth, clip.color_tags) == ("prores", 10, (1, 1, 1))
    assert not clip.is_full_range and not clip.has_audio and not clip.is_variable
    sound = tmp_path / "sound.mov"
    run_ffmpeg("-i", str(master), "-f", "lavfi", "-i", "sine=d=1", "-c:v", "copy", str(sound))
    assert probe(sound).has_audio
    full = make_video("full.mp4", "-c:v", "libx264", "-pix_fmt", "yuvj420p")
    assert (probe(full).codec, probe(full).bit_depth, probe(full).is_full_range) == (
        "h264",
        8,
        True,
    )
    assert probe(full).color_tags[:2] == (2, 2)


SET_TAGS = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709"


# Image sequences


def make_sequence(folder: Path, name: str, *arguments: str, first: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    graph = "testsrc2=s=64x48:r=24,noise=alls=40:allf=t,trim=end_frame=6"
    numbered = ("-start_number", str(first), str(folder / name))
    run_ffmpeg("-f", "lavfi", "-i", graph, *arguments, *numbered)
    return folder


SEQUENCES = {
    "shot.%04d.png": ("-pix_fmt", "rgb48be"),
    "alpha%d.png": ("-pix_fmt", "rgba"),
    "shot_%05d.tif": ("-pix_fmt", "rgb48le"),
    "shot.%04d.dpx": ("-pix_fmt", "gbrp10le"),
    "shot-%03d.exr": ("-pix_fmt", "gbrpf32le"),
    "half.%04d.EXR": ("-pix_fmt", "gbrpf32le", "-format", "half", "-c:v", "exr", "-f", "image2"),
    "shot.%04d.jpg": ("-pix_fmt", "yuvj444p", "-q:v", "1"),
}
DEPTHS = {"png": 16, "tif": 16, "dpx": 10, "exr": 32, "EXR": 16, "jpg": 8}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_folder_of_numbered_pictures_is_a_clip(tmp_path: Path, name: str):
    folder = make_sequence(tmp_path / "shot", name, *SEQUENCES[name], first=998)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.0001.png").write_bytes(b"")
    clip = probe(folder, frame_rate=Fraction(24000, 1001))
    assert (clip.width, clip.height, clip.num_frames) == (64, 48, 6)
    assert (clip.path, clip.frame_rate) == (folder, Fraction(24000, 1001))
    assert clip.bit_depth == (8 if "alpha" in name else DEPTHS[name[-3:]])
    whole = list(read_frames(folder, frame_rate=Fraction(24)))
    assert len(whole) == 6 and whole[0].dtype == np.uint16
    assert len({frame.tobytes() for frame in whole}) == 6
    part = list(read_frames(folder, start=2, num_frames=3, frame_rate=Fraction(24)))
    np.testing.assert_array_equal(part, whole[2:5])
    pattern = folder / re.sub(r"%0?(\d?)d", lambda digits: "#" * int(digits[1] or 1), name)
    np.testing.assert_array_equal(next(read_frames(pattern, frame_rate=Fraction(1))), whole[0])


def test_sixteen_bits_of_a_picture_are_kept(tmp_path: Path):
    values = np.random.default_rng(1).integers(0, 65536, (32, 32, 3), np.uint16)
    for suffix, order in (("png", "rgb48be"), ("tif", "rgb48le")):
        raw = ("-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", "32x32", "-r", "24", "-i", "-")
        path = tmp_path / f"deep.0001.{suffix}"
        run_ffmpeg(*raw, "-pix_fmt", order, str(path), stdin=values.tobytes())
        pattern = tmp_path / f"deep.####.{suffix}"
        np.testing.assert_array_equal(next(read_frames(pattern, frame_rate=Fraction(24))), values)


def test_linear_light_is_encoded_as_srgb(tmp_path: Path):
    light = np.array([0, 0.001, 0.005, 0.18, 0.5, 1, 4, -1], "<f4").repeat(8)
    planes = np.stack([light, np.zeros(64, "<f4"), light[::-1]])  # green, blue, red
    raw = ("-f", "rawvideo", "-pix_fmt", "gbrpf32le", "-s", "64x1", "-r", "24", "-i", "-")
    run_ffmpeg(*raw, str(tmp_path / "light.0001.exr"), stdin=planes.tobytes())
    frame = next(read_frames(tmp_path / "light.####.exr", frame_rate=Fraction(24)))
    clipped = np.clip(light.astype(float), 0, 1)
    code = np.where(clipped <= 0.0031308, clipped * 12.92, 1.055 * clipped ** (1 / 2.4) - 0.055)
    assert np.abs(frame[0, :, 1] - code * 65535).max() <= 1
    np.testing.assert_array_equal(frame[0, :, 0], frame[0, ::-1, 1])
    assert not frame[..., 2].any()


@pytest.mark.parametrize("pixel_format", ["gray", "gray16be", "ya8", "ya16be", "pal8"])
def test_grey_and_palettes_are_shown(tmp_path: Path, pixel_format: str):
    gradient = ("-f", "lavfi", "-i", "gradients=s=64x48:c0=black:c1=white:n=2:x0=0:x1=63:y0=0:y1=0")
    path = tmp_path / "grey.0001.png"
    run_ffmpeg(*gradient, "-frames:v", "1", "-pix_fmt", pixel_format, str(path))
    frame = next(read_frames(tmp_path / "grey.####.png", frame_rate=Fraction(24)))
    assert frame[0, 0].max() < 3000 and frame[0, -1].min() > 62000


def test_gaps_and_doubles_in_the_numbering_are_named(tmp_path: Path):
    folder = make_sequence(tmp_path / "shot", "shot.%04d.png")
    (folder / "shot.0003.png").rename(tmp_path / "away.png")
    with pytest.raises(
        MediaError, match=r"shot\.####\.png has gaps: shot\.0003\.png missing"
    ) as gap:
        probe(folder, frame_rate=Fraction(24))
    assert gap.value.hint
    (folder / "shot.0005.png").unlink()
    with pytest.raises(MediaError, match=r"shot\.0003\.png and 1 more missing"):
        read_frames(folder / "shot.####.png", frame_rate=Fraction(24))
    (folder / "shot.3.png").write_bytes(b"")
    (folder / "shot.0003.png").write_bytes(b"")
    with pytest.raises(MediaError, match=r"shot\.0003\.png and shot\.3\.png are the same frame"):
        probe(folder, frame_rate=Fraction(24))


def test_a_sequence_needs_its_rate_and_must_be_one(tmp_path: Path):
    folder = make_sequence(tmp_path / "shot", "a.%04d.png")
    with pytest.raises(RequestError, match=r"a\.####\.png is an image sequence") as no_rate:
        probe(folder)
    assert "frame rate" in no_rate.value.hint
    make_sequence(folder, "b.%04d.png")
    with pytest.raises(MediaError, match=r"2 sequences, of them a\.####\.png and b\.####\.png"):
        probe(folder, frame_rate=Fraction(24))
    assert probe(folder / "b.####.png", frame_rate=Fraction(24)).num_frames == 6
    with pytest.raises(MediaError, match=r"No picture is named c\.####\.png"):
        probe(folder / "c.####.png", frame_rate=Fraction(24))


def test_a_picture_of_another_size_is_named(tmp_path: Path):
    folder = make_sequence(tmp_path / "shot", "a.%04d.png")
    Image.new("RGB", (32, 48)).save(folder / "a.0004.png")
    with pytest.raises(MediaError, match=r"a\.0004\.png has another size"):
        list(read_frames(folder, frame_rate=Fraction(24)))
    assert len(list(read_frames(folder, num_frames=3, frame_rate=Fraction(24)))) == 3


def test_a_picture_with_a_huge_side_is_refused(tmp_path: Path):
    Image.new("L", (16386, 2)).save(tmp_path / "long.0001.png")
    with pytest.raises(MediaError, match=r"long\.0001\.png is too large: 16386 x 2"):
        probe(tmp_path, frame_rate=Fraction(24))


def test_a_png_that_loads_in_passes_is_a_picture(tmp_path: Path):
    graph = ("-f", "lavfi", "-i", "testsrc2=s=64x48", "-frames:v", "1")
    run_ffmpeg(*graph, "-flags", "+ildct", str(tmp_path / "passes.0001.png"))
    assert (tmp_path / "passes.0001.png").read_bytes()[28] == 1  # Adam7
    frame = next(read_frames(tmp_path, frame_rate=Fraction(24)))
    np.testing.assert_array_equal(frame // 257, read_image(tmp_path / "passes.0001.png"))


def test_a_file_with_a_hash_in_its_name_is_that_file(make_video: MakeVideo):
    assert probe(make_video("take #3.mp4", *X264)).num_frames == 24


# Refused


@pytest.fixture
def canary(make_video: MakeVideo):
    """(hits so far, address of a server that counts them, a whole video)."""
    hits: list[str] = []

    class Canary(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Canary)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hits, f"http://127.0.0.1:{server.server_port}", make_video("canary.mp4", *X264)
    server.shutdown()
    thread.join()
    server.server_close()


def test_hostile_files_are_refused_and_open_nothing_else(tmp_path: Path, canary):
    hits, url, video = canary
    hostile_files.write_texts(tmp_path, url, video)
    for name in hostile_files.TEXTS:
        path = tmp_path / name
        for read in (probe, read_frames, read_image):
            with pytest.raises(MediaError) as caught:
                read(path)
            assert name in caught.value.message
            assert caught.value.hint
            assert str(tmp_path) not in caught.value.message
    assert hits == []


def test_left_to_itself_libav_does_open_other_files(
    tmp_path: Path, make_video: MakeVideo, canary: Canary
):
    """The control of the test above: where this fails, that one proves nothing."""
    hits, url, video = canary
    hostile_files.write_texts(tmp_path, url, video)
    with av.open(str(tmp_path / "concat.mp4")) as container:
        assert container.format.name == "concat" and container.streams.video[0].width == 64
    with pytest.raises(av.error.FFmpegError):
        listed = (tmp_path / "playlist.mp4").rename(tmp_path / "list.m3u8")
        av.open(str(listed), options={"protocol_whitelist": "file,http,tcp"})
    assert hits
    movie = make_video("movie.mov", *KINDS["prores.mov"]).read_bytes()
    other = make_video("other.mov", *KINDS["prores.mov"])
    path = tmp_path / "elsewhere.mov"
    path.write_bytes(hostile_files.with_elsewhere(movie, other))
    believing = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), options=believing) as container:
        assert sum(1 for _ in container.demux(video=0)) > 20
    other.unlink()
    with av.open(str(path), options=believing) as container:  # nothing left to show
        assert sum(1 for _ in container.demux(video=0)) <= 1


MEMORY_LIMIT_BYTES = 3 << 30  # of a frame of 16384 x 16384, 1.5 GB in RGB, two steps


def test_a_corpus_of_lies_and_damage_ends_in_time_and_memory(
    tmp_path: Path, make_video: MakeVideo, canary
):
    hits, url, video = canary
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    hostile_files.write_texts(corpus, url, video)
    hostile_files.write_pictures(corpus)
    must_fail = {path.name for path in corpus.iterdir()} | {"elsewhere.mov"}
    movie = make_video("movie.mov", *X264).read_bytes()
    hostile_files.write_movies(corpus, movie, video)
    for name in ("h264.mp4", "h264.mkv", "h264.ts", "prores.mov", "dnxhr.mxf", "mpeg4.avi"):
        hostile_files.write_damaged(corpus, make_video(name, *KINDS[name]), 12)
    command = [sys.executable, hostile_files.__file__, str(corpus), str(MEMORY_LIMIT_BYTES)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    report = json.loads(ended.stdout)
    assert len(report["files"]) == len(list(corpus.iterdir()))
    for name, found in report["files"].items():
        assert found["error"] in ("media", ""), (name, found)
        assert found["error"] == "" or (found["hint"] and str(corpus) not in found["message"])
        assert found["seconds"] < 5, name
        assert found["error"] or name not in must_fail, name
    assert hits == []
    assert report["peak"] < 500_000  # KiB


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path):
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "missing.mp4", fifo, Path("/dev/zero"), Path("a\0b.mp4")):
        for read in (probe, read_image):
            with pytest.raises(MediaError) as caught:
                read(path)
            assert path.name in caught.value.message and caught.value.hint


STRANGE = [
    "http:x.mp4",
    "-y.mp4",
    "%03d.mp4",
    "a'b\nc.mp4",
    "📽 é.mp4",
    "concat:a|b.mp4",
    "\udcff.mp4",
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_name_is_only_a_name(
    make_video: MakeVideo, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    path = make_video("plain.mp4", *X264).rename(tmp_path / name)
    assert probe(path).num_frames == 24
    monkeypatch.chdir(tmp_path)
    assert len(list(read_frames(Path(name), start=20))) == 4
    Path(name).unlink()
    with pytest.raises(MediaError, match="cannot be opened"):
        probe(Path(name))


@pytest.mark.parametrize("name", ["http:x.", "-y.", "%03d.", "a'b\nc.", "[x](y).*?."])
def test_a_strange_name_of_a_sequence_is_only_a_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    for number in (7, 8):
        Image.new("RGB", (8, 8), (number * 9, 0, 0)).save(tmp_path / f"{name}{number:04}.png")
    monkeypatch.chdir(tmp_path)
    for path in (Path(), Path(f"{name}####.png"), tmp_path / f"{name}#.png"):
        frames = list(read_frames(path, frame_rate=Fraction(24)))
        assert [int(frame[0, 0, 0]) for frame in frames] == [63 * 257, 72 * 257]


def test_links_to_folders_and_loops_are_no_videos(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    link, loop = tmp_path / "link.mp4", tmp_path / "loop.mp4"
    link.symlink_to(folder)
    loop.symlink_to(loop)
    for path in (link, loop):
        with pytest.raises(MediaError, match=path.name) as caught:
            probe(path, frame_rate=Fraction(24))
        assert caught.value.hint
    os.mkfifo(folder / "shot.0001.png")
    with pytest.raises(MediaError, match=r"shot\.0001\.png is not a regular file"):
        probe(folder, frame_rate=Fraction(24))


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_picture_cut_short_is_refused_by_name(tmp_path: Path, name: str, share: float):
    folder = make_sequence(tmp_path / "shot", name, *SEQUENCES[name])
    path = sorted(folder.iterdir())[3]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(MediaError, match=re.escape(path.name)):
        list(read_frames(folder, frame_rate=Fraction(24)))


@pytest.mark.parametrize("missing", [-24, -8, 0, 100])
def test_a_picture_that_is_still_being_rendered_is_refused(tmp_path: Path, missing: int):
    folder = make_sequence(tmp_path / "shot", "a.%04d.exr", "-pix_fmt", "gbrpf32le")
    path = folder / "a.0002.exr"
    content = path.read_bytes()
    table_bytes = 48 * 8  # a chunk a line; its first entry says where it ends
    table_end = next(
        start + table_bytes
        for start in range(len(content))
        if content[start : start + 8] == (start + table_bytes).to_bytes(8, "little")
    )
    written = table_end + missing
    path.write_bytes(content[:written].ljust(len(content), b"\0"))
    with pytest.raises(MediaError, match=r"a\.0002\.exr is cut short"):
        list(read_frames(folder, frame_rate=Fraction(24)))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_video_is_refused(make_video: MakeVideo, name: str, share: float):
    path = make_video(name, *KINDS[name])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share) | 1])
    with pytest.raises(MediaError, match=name):
        list(read_frames(path))


def test_a_truncated_video_with_its_table_in_front_is_refused_by_probe(make_video: MakeVideo):
    path = make_video("front.mp4", *X264, "-movflags", "+faststart")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MediaError, match="ends before its last frame"):
        probe(path)


@pytest.mark.parametrize("name", ["h264.mp4", "prores.mov", "h264.mkv"])
def test_damage_in_the_middle_names_the_frame(make_video: MakeVideo, name: str):
    path = make_video(name, *KINDS[name])
    content = bytearray(path.read_bytes())
    middle, length = len(content) // 2, len(content) // 10  # two frames or more
    content[middle : middle + length] = bytes([0xA5]) * length
    path.write_bytes(content)
    with pytest.raises(MediaError, match=rf"{name} is damaged near frame \d+"):
        list(read_frames(path))


def test_interlaced_video_is_refused_with_advice(make_video: MakeVideo):
    path = make_video("fields.mp4", *X264, "-flags", "+ilme+ildct", "-vf", "setfield=tff")
    with pytest.raises(MediaError, match=r"fields\.mp4 is interlaced") as caught:
        probe(path)
    assert "Deinterlace" in caught.value.hint


def test_sound_without_picture_is_refused(make_video: MakeVideo, tmp_path: Path):
    sound = make_video("sound.mp4", "-c:a", "aac", source="sine=d=0.2")
    cover, covered = tmp_path / "cover.png", tmp_path / "covered.mp4"
    Image.new("RGB", (16, 16)).save(cover)
    inputs = ("-i", str(sound), "-i", str(cover), "-map", "0", "-map", "1", "-c", "copy")
    run_ffmpeg(*inputs, "-disposition:v", "attached_pic", str(covered))
    for path in (sound, covered):
        with pytest.raises(MediaError, match="no video track"):
            probe(path)


def test_a_video_with_huge_sides_is_refused(make_video: MakeVideo):
    path = make_video("huge.mkv", "-c:v", "ffv1", source="color=s=16386x2:r=24,trim=end_frame=1")
    with pytest.raises(MediaError, match="16386 x 2"):
        probe(path)


# Images


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp"])
def test_images_are_read_as_they_are(tmp_path: Path, suffix: str):
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    path = tmp_path / f"still.{suffix}"
    Image.fromarray(pixels).save(path, lossless=True)
    np.testing.assert_array_equal(read_image(path), pixels)


def test_exif_orientation_is_applied(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))
    image.save(tmp_path / "phone.jpg", exif=exif, quality=100)
    shown = read_image(tmp_path / "phone.jpg")
    assert shown.shape == (16, 8, 3)
    assert shown[2, 4, 0] > 250 and shown[13, 4, 0] < 5


def test_transparency_is_flattened_on_black(tmp_path: Path):
    Image.new("RGBA", (4, 4), (200, 100, 50, 128)).save(tmp_path / "half.png")
    np.testing.assert_array_equal(read_image(tmp_path / "half.png")[0, 0], [100, 50, 25])
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=1)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png")[0, 0], [0, 0, 0])


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path):
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[0, 0], [128, 128, 128])


def test_bad_images_are_refused(tmp_path: Path):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    for suffix in ("png", "jpg", "webp", "tiff", "bmp"):
        path = tmp_path / f"cut.{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(MediaError, match=f"cut.{suffix}"):
            read_image(path)
    Image.fromarray(noise).save(tmp_path / "moving.gif")
    Image.new("1", (12000, 12000)).save(tmp_path / "bomb.png")
    Image.new("1", (17000, 2)).save(tmp_path / "long.png")
    for name in ("moving.gif", "bomb.png", "long.png"):
        with pytest.raises(MediaError, match=name):
            read_image(tmp_path / name)


def test_frames_that_were_read_are_let_go_of(tmp_path: Path, make_video: MakeVideo):
    """Without the garbage collector: PyAV's frames may refer to themselves."""
    path = make_video("movie.mov", *X264)
    gc.collect()
    gc.disable()
    try:
        others = video_frames()  # tests before this one may have left some
        for _ in read_frames(path):
            pass
        kept = video_frames() - others
    finally:
        gc.enable()
    assert kept <= 2


def video_frames() -> int:
    return sum(type(one) is av.VideoFrame for one in gc.get_objects())
