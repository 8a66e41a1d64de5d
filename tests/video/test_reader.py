"""Frames come out exact, in order and in the right colours; hostile files do not get in."""

import os
import pickle
import subprocess
import threading
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from freeswim.errors import MediaError, RequestError
from freeswim.video.reader import probe, read_frames, read_image

MakeVideo = Callable[..., Path]


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


@pytest.mark.parametrize("name", KINDS)
def test_every_container_gives_its_exact_rate_and_every_frame(make_video: MakeVideo, name: str):
    path = make_video(name, *KINDS[name])
    clip = probe(path)
    frames = list(read_frames(path))
    assert (clip.frame_rate, clip.num_frames) == (Fraction(24000, 1001), 24)
    assert len(frames) == 24
    assert frames[0].shape == (clip.height, clip.width, 3)
    assert frames[0].dtype == np.uint16


@pytest.mark.parametrize("name", KINDS)
def test_a_range_is_the_same_frames_as_the_whole_clip_has(make_video: MakeVideo, name: str):
    path = make_video(name, *KINDS[name])
    whole = list(read_frames(path))
    for start in (1, 7, 8, 13, 23):
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


# Refused

HOSTILE = {
    "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\n{url}/a.ts\n",
    "playlist.m3u8": b"\n #EXTM3U\n#EXTINF:1,\nfile:{canary}\n#EXT-X-ENDLIST\n",
    "concat.mp4": b"ffconcat version 1.0\nfile canary.mp4\n",
    "dash.mp4": b"<?xml version='1.0'?><MPD><BaseURL>{url}/a</BaseURL></MPD>",
    "session.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "disguised.mp4": b"\0\0\0\x18ftypisom\0\0\0\0isom#EXTM3U\n{url}/a.ts\n",
    "text.mov": b"This is only text.\n" * 50,
    "empty.mp4": b"",
    "short.mp4": b"\0\0",
    "weights.mp4": pickle.dumps({"weights": [1.0, 2.0]}),
    "archive.mp4": b"PK\x03\x04" + bytes(100),
    "header.mkv": b"\x1a\x45\xdf\xa3" + bytes(200),
    "header.avi": b"RIFF\xff\xff\xff\x7fAVI " + bytes(200),
    "header.mxf": bytes.fromhex("060e2b34020501010d0102010102040083000078") + bytes(200),
    "header.ts": (b"G" + bytes(187)) * 10,
    "header.mov": b"\0\0\0\x08moov",
}


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
    for name, content in HOSTILE.items():
        path = tmp_path / name
        text = content.replace(b"{url}", url.encode()).replace(b"{canary}", bytes(video))
        path.write_bytes(text)
        for read in (probe, read_frames, read_image):
            with pytest.raises(MediaError) as caught:
                read(path)
            assert name in caught.value.message
            assert caught.value.hint
            assert str(tmp_path) not in caught.value.message
    assert hits == []


def test_left_to_itself_libav_does_open_other_files(tmp_path: Path, make_video: MakeVideo):
    """The control of the test above: where this fails, that one proves nothing."""
    make_video("canary.mp4", *X264)
    path = tmp_path / "concat.mp4"
    path.write_bytes(HOSTILE["concat.mp4"])
    with av.open(str(path)) as container:
        assert container.format.name == "concat" and container.streams.video[0].width == 64


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path):
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "missing.mp4", fifo, Path("/dev/zero"), Path("a\0b.mp4")):
        for read in (probe, read_image):
            with pytest.raises(MediaError) as caught:
                read(path)
            assert path.name in caught.value.message and caught.value.hint


@pytest.mark.parametrize("name", ["http:x.mp4", "-y.mp4", "%03d.mp4", "a'b\nc.mp4", "📽 é.mp4"])
def test_a_strange_name_is_only_a_name(make_video: MakeVideo, tmp_path: Path, name: str):
    path = make_video("plain.mp4", *X264).rename(tmp_path / name)
    assert probe(path).num_frames == 24


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
