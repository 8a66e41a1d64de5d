import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from torch import Tensor

import freeswim.models.demo
from freeswim import preview
from freeswim.models.demo.koi import render, sample_scene
from freeswim.preview import LONGEST_SIDE, Previews, to_picture
from freeswim.video import autoencoder

WEIGHTS = freeswim.models.demo.__path__[0] + "/weights"


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    return AutoencoderKLWan.from_pretrained(WEIGHTS, subfolder="vae").eval()


@pytest.fixture(scope="module")
def koi_latents(vae: AutoencoderKLWan) -> Tensor:
    frames = np.concatenate([render(sample_scene(np.random.default_rng(3)), 192, 256)])
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] * 2 - 1
    with torch.inference_mode():
        return autoencoder.encode(vae, video[:, :, :9])


class Clock:
    """Time that passes when it is told to, and by `cost` at every preview."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_preview_looks_like_the_frame_it_stands_for(vae: AutoencoderKLWan, koi_latents: Tensor):
    with torch.inference_mode():
        frame = autoencoder.decode(vae, koi_latents)[0, :, 3].permute(1, 2, 0).numpy()
    picture = np.asarray(to_picture(vae, koi_latents), np.float32) / 127.5 - 1
    assert picture.shape == frame.shape
    assert np.corrcoef(picture.ravel(), frame.ravel())[0, 1] > 0.8
    assert abs(picture.mean() - frame.mean()) < 0.1


@pytest.mark.parametrize("channels", [16, 48])
def test_any_number_of_latent_channels_has_a_picture(channels: int):
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=channels, latents_mean=[0.0] * channels, latents_std=[1.0] * channels
    )
    picture = to_picture(vae, torch.randn(1, channels, 3, 60, 104))
    assert (max(picture.size), picture.mode) == (LONGEST_SIDE, "RGB")


def test_the_autoencoder_is_left_as_it_was(koi_latents: Tensor):
    vae = AutoencoderKLWan.from_pretrained(WEIGHTS, subfolder="vae").eval()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    to_picture(vae, koi_latents)
    assert all(torch.equal(before[name], value) for name, value in vae.state_dict().items())
    assert not vae.use_tiling


def test_previews_take_their_share_of_the_time_and_no_more(
    vae: AutoencoderKLWan, koi_latents: Tensor, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    clock, numbers = Clock(), []
    made = preview.to_picture

    def slow_picture(*arguments: object) -> Image.Image:
        clock.now += 0.5
        return made(vae, koi_latents)

    monkeypatch.setattr(preview, "to_picture", slow_picture)
    previews = Previews(tmp_path / "preview.jpg", numbers.append, clock)
    for _ in range(1000):
        clock.now += 1
        previews.show(vae, koi_latents)
    assert numbers == list(range(1, len(numbers) + 1))
    assert 35 <= len(numbers) <= 41
    with Image.open(tmp_path / "preview.jpg") as picture:
        picture.load()
    assert [path.name for path in tmp_path.iterdir()] == ["preview.jpg"]


def test_a_preview_that_cannot_be_written_fails_no_job(
    vae: AutoencoderKLWan, koi_latents: Tensor, tmp_path
):
    numbers = []
    Previews(tmp_path / "gone" / "preview.jpg", numbers.append).show(vae, koi_latents)
    assert numbers == []
