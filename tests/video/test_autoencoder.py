"""The streamed autoencoder against diffusers' own, its seams, its memory.

Most tests make tiles small: what is compared does not depend on their size.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from freeswim import paths
from freeswim.errors import MediaError
from freeswim.models.demo.koi import render, sample_scene
from freeswim.video import autoencoder
from freeswim.video.tiles import Scratch, Seams, Tile, cut_frame

TINY = {"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
WITH_PATCHES = {
    "z_dim": 48, "in_channels": 12, "out_channels": 12, "is_residual": True, "patch_size": 2,
    "scale_factor_spatial": 16, "decoder_base_dim": 4,
    "latents_mean": [0.1 * (channel % 5 - 2) for channel in range(48)],
    "latents_std": [0.5 + 0.05 * (channel % 7) for channel in range(48)],
}  # fmt: skip

SIZE = (208, 160)  # px; of tiles of 128 every 96 it takes 3 x 2, the smallest 16 x 64


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors: threads that wait for each other on a busy machine take ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["demo", "wan2.1", "wan2.2"])
def vae(request: pytest.FixtureRequest) -> AutoencoderKLWan:
    """The demo's autoencoder, and random ones built like Wan's."""
    return make_vae(request.param)


@pytest.fixture
def demo() -> AutoencoderKLWan:
    return make_vae("demo")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame is tiled, in tiles of 128 px."""
    monkeypatch.setattr(autoencoder, "WHOLE_FRAME", 0)
    monkeypatch.setattr(autoencoder, "TILE", 128)
    monkeypatch.setattr(autoencoder, "STRIDE", 96)


def make_vae(name: str) -> AutoencoderKLWan:
    if name == "demo":
        return AutoencoderKLWan.from_pretrained(paths.demo_weights() / "vae")
    config = {"z_dim": 16} if name == "wan2.1" else WITH_PATCHES
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return AutoencoderKLWan(**{**TINY, **config}).eval()  # pyright: ignore


def random_latents(vae: AutoencoderKLWan, size: tuple[int, int], num_latents: int) -> Tensor:
    factor = vae.config["scale_factor_spatial"]
    shape = (1, vae.config["z_dim"], num_latents, size[1] // factor, size[0] // factor)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def random_video(size: tuple[int, int], num_frames: int) -> Tensor:
    shape = (1, 3, num_frames, size[1], size[0])
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def statistics(vae: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(vae.config[f"latents_{name}"]) for name in ("mean", "std"))
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


@torch.no_grad()
def diffusers_decode(vae: AutoencoderKLWan, latents: Tensor, *, tile: int | None = None) -> Tensor:
    """What diffusers makes of the latents, in tiles of `tile` px or in one piece."""
    mean, std = statistics(vae)
    if tile is not None:
        vae.enable_tiling(tile, tile, tile * 3 // 4, tile * 3 // 4)
    video = vae.decode(latents * std + mean, return_dict=False)[0]
    vae.disable_tiling()
    return video


@torch.no_grad()
def diffusers_encode(vae: AutoencoderKLWan, video: Tensor, *, tile: int | None = None) -> Tensor:
    """The same for encoding; diffusers measures these tiles in patches."""
    mean, std = statistics(vae)
    if tile is not None:
        side = tile // (vae.config["patch_size"] or 1)
        vae.enable_tiling(side, side, side * 3 // 4, side * 3 // 4)
    latents = vae.encode(video).latent_dist.mode()  # pyright: ignore
    vae.disable_tiling()
    return (latents - mean) / std


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


# ------------------------------------------------------------------------ equal to diffusers' own


@torch.no_grad()
def test_small_frames_are_coded_as_diffusers_codes_them_whole(vae: AutoencoderKLWan):
    latents, video = random_latents(vae, (96, 64), 3), random_video((96, 64), 9)
    assert largest_difference(autoencoder.decode(vae, latents), diffusers_decode(vae, latents)) < (
        1e-5
    )
    theirs = diffusers_encode(vae, video)
    streamed = autoencoder.encode_frames(vae, video[0].unbind(1), num_frames=9, size=(96, 64))
    assert largest_difference(autoencoder.encode(vae, video), theirs) < 1e-5
    assert largest_difference(streamed, theirs) < 1e-5


@pytest.mark.usefixtures("small_tiles")
def test_tiled_decode_is_diffusers_tiled_decode(vae: AutoencoderKLWan):
    latents = random_latents(vae, SIZE, 3)
    theirs = diffusers_decode(vae, latents, tile=128)
    assert largest_difference(autoencoder.decode(vae, latents), theirs) < 1e-4
    assert largest_difference(theirs, diffusers_decode(vae, latents)) > 1e-2, "tiles did not matter"


@pytest.mark.usefixtures("small_tiles")
def test_tiled_encode_is_diffusers_tiled_encode(vae: AutoencoderKLWan):
    video = random_video(SIZE, 9)
    theirs = diffusers_encode(vae, video, tile=128)
    streamed = autoencoder.encode_frames(vae, video[0].unbind(1), num_frames=9, size=SIZE)
    assert largest_difference(autoencoder.encode(vae, video), theirs) < 1e-5
    assert largest_difference(streamed, theirs) < 1e-3  # the frames have waited with 16 bits
    assert largest_difference(theirs, diffusers_encode(vae, video)) > 1e-2, "tiles did not matter"


@torch.no_grad()
def test_frames_above_480p_are_tiled(demo: AutoencoderKLWan):
    assert len(autoencoder._Grid.of_pixels(demo, (832, 480)).tiles) == 1
    tiles = autoencoder._Grid.of_pixels(demo, (3840, 2160)).tiles
    assert len(tiles) == 60
    assert max(tile.height * 16 for tile in tiles) == max(tile.width * 16 for tile in tiles) == 512


@pytest.mark.usefixtures("small_tiles")
def test_reduced_precision_of_the_autoencoder_is_kept(demo: AutoencoderKLWan):
    demo = demo.to(torch.bfloat16)
    latents = random_latents(demo, (160, 96), 2)
    frames = list(autoencoder.decode_frames(demo, latents))
    assert {frame.dtype for frame in frames} == {torch.float32}
    assert autoencoder.encode(demo, torch.stack(frames, 1)[None]).dtype == torch.float32
    whole = autoencoder.decode(make_vae("demo"), latents)
    assert (torch.stack(frames, 1)[None] - whole).abs().mean() < 0.02


# ---------------------------------------------------------------------------------- as a stream


@pytest.mark.usefixtures("small_tiles")
def test_frames_come_in_order_and_the_work_is_told(demo: AutoencoderKLWan):
    latents, told = random_latents(demo, (160, 96), 2), []
    frames = list(autoencoder.decode_frames(demo, latents, on_frame=told.append))
    whole = autoencoder.decode(demo, latents)[0].unbind(1)
    assert len(frames) == 5
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(frames, whole, strict=True))
    assert told == sorted(told)
    assert told[-1] == 5


def test_whole_frames_come_before_the_rest_is_decoded(demo: AutoencoderKLWan):
    told: list[int] = []
    frames = autoencoder.decode_frames(
        demo, random_latents(demo, (64, 64), 3), on_frame=told.append
    )
    next(frames)
    assert told == [1]


def test_frames_are_pulled_as_they_are_needed(demo: AutoencoderKLWan):
    pulled: list[int] = []

    def frames() -> Iterator[Tensor]:
        for index, frame in enumerate(random_video((64, 64), 9)[0].unbind(1)):
            pulled.append(index)
            yield frame

    first = []
    autoencoder.encode_frames(
        demo,
        frames(),
        num_frames=9,
        size=(64, 64),
        on_frame=lambda _: first.append(len(pulled)),
    )
    assert first == [1, 5, 9]


@pytest.mark.parametrize("size", [(64, 64), SIZE])
@pytest.mark.usefixtures("small_tiles")
def test_fewer_frames_than_announced_are_an_error(demo: AutoencoderKLWan, size: tuple[int, int]):
    with pytest.raises(MediaError, match="4 frames came for a clip of 5"):
        frames = random_video(size, 4)[0].unbind(1)
        autoencoder.encode_frames(demo, frames, num_frames=5, size=size)


@pytest.mark.usefixtures("small_tiles")
def test_model_and_disk_are_left_as_they_were(demo: AutoencoderKLWan, tmp_path: Path):
    demo.clear_cache()
    demo.enable_tiling(64, 64, 48, 48)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    latents = random_latents(demo, SIZE, 2)
    frames = autoencoder.decode_frames(demo, latents, folder=tmp_path)
    next(frames)
    frames.close()  # pyright: ignore
    for work in (
        lambda: list(autoencoder.decode_frames(demo, latents, on_frame=stop, folder=tmp_path)),
        lambda: autoencoder.encode_frames(
            demo, random_video(SIZE, 5)[0].unbind(1), num_frames=5, size=SIZE, on_frame=stop
        ),
    ):
        with pytest.raises(KeyboardInterrupt):
            work()
    assert demo._feat_map == [None] * len(demo._feat_map)
    assert demo._enc_feat_map == [None] * len(demo._enc_feat_map)
    assert (demo.use_tiling, demo.tile_sample_min_width) == (True, 64)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 48), (240, 135), (96, 97)])
def test_stride_by_stride_every_place_belongs_to_one_tile(size: tuple[int, int]):
    frame = np.zeros((size[1], size[0]), int)
    for tile in cut_frame(size, 64, 48):
        frame[tile.top : tile.top + 48, tile.left : tile.left + 48] += 1
        assert tile.top + tile.height <= size[1]
        assert tile.left + tile.width <= size[0]
    assert (frame == 1).all()


def test_scratch_gives_back_what_was_put_last_and_uses_its_place_again():
    with Scratch() as scratch:
        for number in range(3):
            scratch.put("a", np.full((2, 3), number, np.uint16))
            scratch.put("b", np.full((number + 1,), number, np.float32))
        assert (scratch.get("a") == 2).all()
        assert scratch.get("b").tolist() == [2.0, 2.0, 2.0]
        assert scratch._end == 12 + 4 + 8 + 12


# ---------------------------------------------------------------------------------------- seams

SEAM_SIZE = (640, 448)  # px; tiles of the real size meet at 384 in both directions
MOST_TIMES, MOST_STEPS = 2.0, 1.0


class HardCut(Seams):
    """A broken blend: tiles are put side by side."""

    def blend(self, tile: Tile, chunk: int, video: Tensor) -> Tensor:
        return video[..., : self._stride, : self._stride]


def seam(tiled: Tensor, whole: Tensor) -> tuple[float, float]:
    """How much tiles roughen a clip at their borders: where one begins and where it is alone.

    Roughness is the mean absolute second difference across the border. The first figure is how
    many times rougher the worst border is than where nothing was tiled, over the same of all
    other places (1: no seam); the second is by how much, in steps of an 8-bit picture.
    """
    figures = []
    for dim in (-1, -2):
        rough, smooth = (
            clip.diff(n=2, dim=dim).abs().movedim(dim, 0).flatten(1).mean(1)
            for clip in (tiled, whole)
        )
        is_border = torch.zeros(len(rough), dtype=torch.bool)
        for border in (384, 512):  # the differences at b - 2 and b - 1 cross from b - 1 to b
            is_border[border - 2 : border] = True
        elsewhere = rough[~is_border].mean() / smooth[~is_border].mean()
        times = (rough / smooth)[is_border].max() / elsewhere
        steps = (rough - smooth)[is_border].max() * 127.5
        figures.append((times.item(), steps.item()))
    return max(figures)


def flat_clip() -> Tensor:
    """One colour that slowly gets lighter to the right."""
    ramp = torch.linspace(-0.1, 0.1, SEAM_SIZE[0]).expand(1, 3, 5, SEAM_SIZE[1], -1)
    return ramp + torch.tensor([-0.6, -0.2, 0.1]).view(1, 3, 1, 1, 1)


def busy_clip() -> Tensor:
    """Koi."""
    scene = sample_scene(np.random.default_rng(5))
    frames = torch.from_numpy(render(scene, SEAM_SIZE[1], SEAM_SIZE[0], num_frames=5))
    return frames.permute(3, 0, 1, 2)[None] * 2 - 1


@pytest.mark.parametrize("clip", [flat_clip, busy_clip])
def test_tiles_leave_no_seam_and_a_hard_cut_would_be_seen(
    demo: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch, clip, record_property
):
    latents = autoencoder.encode(demo, clip())
    whole = autoencoder.decode(demo, latents)
    monkeypatch.setattr(autoencoder, "WHOLE_FRAME", 0)
    times, steps = seam(autoencoder.decode(demo, latents), whole)
    monkeypatch.setattr(autoencoder, "Seams", HardCut)
    cut_times, cut_steps = seam(autoencoder.decode(demo, latents), whole)
    record_property("seam", f"{times:.2f} times, {steps:.2f} steps")
    record_property("seam of a hard cut", f"{cut_times:.2f} times, {cut_steps:.2f} steps")
    assert times < MOST_TIMES < cut_times
    assert steps < MOST_STEPS < cut_steps


# --------------------------------------------------------------------------------------- memory

MEASURE = """
import re, torch
from pathlib import Path
from diffusers import AutoencoderKLWan
from freeswim.video import autoencoder

torch.set_num_threads(1)
# Small tiles, so that the work on one of them does not hide what a clip would take.
autoencoder.WHOLE_FRAME, autoencoder.TILE, autoencoder.STRIDE = 0, 128, 96
vae = AutoencoderKLWan(
    base_dim=2, dim_mult=[1, 1, 1], num_res_blocks=0, z_dim=4, in_channels=48, out_channels=48,
    is_residual=True, patch_size=4, scale_factor_spatial=16, temperal_downsample=[True, True],
    latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
)
width, height = 768, 512

def code(num_frames):
    frames = (torch.zeros(3, height, width) for _ in range(num_frames))
    size = (width, height)
    latents = autoencoder.encode_frames(vae, frames, num_frames=num_frames, size=size)
    assert sum(1 for _ in autoencoder.decode_frames(vae, latents)) == num_frames

for num_frames in (9, 41):
    code(num_frames)
    # Not getrusage: its peak begins with that of the process which started this one.
    status = Path("/proc/self/status").read_text()
    print(int(re.search("VmHWM: *(.*) kB", status.replace("\\t", " "))[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_frames(record_property):
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    few, many = (int(mib) for mib in done.stdout.split())
    record_property("peak of 9 and 41 frames, MiB", f"{few}, {many}")
    assert many - few < 80  # 32 frames more are 144 MiB; 45 were seen of the allocator alone
