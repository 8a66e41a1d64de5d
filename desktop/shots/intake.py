"""What files are, that a person drops, pastes or chooses: looked at on threads, never believed.

By its name a file is only refused; what it is, its content says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PySide6.QtCore import QMimeData, QObject, QSize, Qt, QThreadPool, QUrl, Signal
from PySide6.QtGui import QImage

from desktop.settings.sheet import ClipFacts
from freeswim.errors import FreeswimError, MediaError
from freeswim.presets import read_preset
from freeswim.request import Request
from freeswim.sidecar import read_sidecar, sidecar_path
from freeswim.studio.wire import PresetSaid

if TYPE_CHECKING:
    import numpy as np

VIDEOS = ("mov", "mp4", "m4v", "mkv", "webm", "mxf", "avi", "mts", "m2ts", "ts", "3gp")
IMAGES = ("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp")
OTHERS = ("yaml", "yml", "json")
MOST_FILES = 200  # of one drop
THUMBNAIL = QSize(384, 216)  # pixels

Kind = Literal["clip", "image", "preset", "take", "nothing"]


@dataclass(frozen=True)
class Found:
    """What a file is."""

    path: Path
    kind: Kind
    reason: str = ""  # of nothing: why it cannot be used
    picture: QImage | None = None
    clip: ClipFacts | None = None
    preset: PresetSaid | None = None
    request: dict[str, Any] | None = None  # of a take


class Intake(QObject):
    """Looks at files. Keep it as long as answers are wanted."""

    found = Signal(object)  # list[Found]

    def look(self, paths: Sequence[Path]) -> None:
        """Look at files and into folders; `found` tells."""
        self._look(lambda: [look_at(path) for path in spread(paths)])

    def look_at_media(self, path: Path) -> None:
        """Look at a video or an image as nothing else, be it a take or not."""
        self._look(lambda: [look_at(path, as_media=True)])

    def _look(self, look: Callable[[], list[Found]]) -> None:
        def work() -> None:
            result = look()
            with suppress(RuntimeError):  # nobody waits any more
                self.found.emit(result)

        QThreadPool.globalInstance().start(work)


def paths_in(mime: QMimeData) -> list[Path]:
    """The files of this machine that are dropped or pasted, or whose paths are written there."""
    urls = mime.urls()
    if not urls and mime.hasText():
        lines = [line.strip().strip("\"'") for line in mime.text().splitlines()[:MOST_FILES]]
        urls = [QUrl(line) for line in lines if line.startswith("file:")]
        written = [Path(line) for line in lines if line and not line.startswith("file:")]
        return [path for path in written if path.is_absolute()] + _local(urls)
    return _local(urls)


def _local(urls: Iterable[QUrl]) -> list[Path]:
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]


def refusal(path: Path, allowed: Sequence[str] = (*VIDEOS, *IMAGES, *OTHERS)) -> str:
    """Why a file cannot be what is wanted, by its name alone; empty: it may be."""
    suffix = path.suffix.lower().removeprefix(".")
    if not suffix or suffix in allowed:
        return ""
    wanted = "video" if set(VIDEOS) <= set(allowed) else "image"
    return f"{suffix.upper()} is not {'a' if wanted == 'video' else 'an'} {wanted}."


def spread(paths: Iterable[Path]) -> list[Path]:
    """Files, and in place of each folder those in it that can be used."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        with suppress(OSError):
            inside = sorted(one for one in path.iterdir() if one.is_file())
            videos = {one.stem for one in inside if one.suffix.lower()[1:] in VIDEOS}
            files += [
                one
                for one in inside
                if one.suffix
                and not refusal(one)
                and not (one.suffix.lower() == ".json" and one.stem in videos)
            ] or [path]
    return files[:MOST_FILES]


def look_at(path: Path, *, as_media: bool = False) -> Found:
    """What a file is; slow. As media a take is a video like any other."""
    if reason := refusal(path):
        return Found(path, "nothing", reason)
    if path.is_dir():
        return Found(path, "nothing", f"{path.name} holds no video and no image.")
    try:
        return _look_at(path, path.suffix.lower().removeprefix("."), as_media=as_media)
    except FreeswimError as error:
        return Found(path, "nothing", f"{error.message} {error.hint}".strip())


def _look_at(path: Path, suffix: str, *, as_media: bool) -> Found:
    if suffix in ("yaml", "yml"):
        return Found(path, "preset", preset=_preset(path))
    if suffix == "json":
        return Found(path, "take", request=_request(path))
    if suffix in IMAGES:
        from freeswim.video.reader import read_image

        return Found(path, "image", picture=_picture(read_image(path)))
    if not as_media and sidecar_path(path).is_file():
        with suppress(MediaError):  # a .json of somebody else
            return Found(path, "take", request=_request(path))
    return _clip(path)


def _preset(path: Path) -> PresetSaid:
    preset = read_preset(path)
    return PresetSaid.model_validate({**vars(preset), "name": f"file {path.stem}"})


def _request(take: Path) -> dict[str, Any]:
    return Request.parse(read_sidecar(take)["request"]).as_dict()


def _clip(path: Path) -> Found:
    from freeswim.video.reader import probe, read_frames

    clip = probe(path)
    facts = ClipFacts(
        width=clip.width,
        height=clip.height,
        num_frames=clip.num_frames,
        frame_rate=clip.frame_rate,
        start_timecode=clip.start_timecode,
    )
    first = next(read_frames(path, num_frames=1))
    return Found(path, "clip", clip=facts, picture=_picture((first >> 8).astype("uint8")))


def _picture(pixels: np.ndarray) -> QImage:
    """(H, W, 3) uint8 as a small picture that owns its pixels."""
    height, width, _ = pixels.shape
    whole = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return whole.scaled(
        THUMBNAIL, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    ).copy()
