"""Takes -> a folder that an editor opens: masters, timelines, and what says how they were made.

    <project>_<editor>/
        media/      a master of each take, at the timeline's rate; in this folder itself where flat
        proxy/      small copies of the masters, NAME_proxy.mov
        native/     the takes as FreeSwim made them
        <project>.otio, .fcpxml, ...
        sidecar/    how each take was made
        takes.csv   the same as a table
        manifest.json   every file with its checksum, and what is on the timeline
        README.txt  how to open it

The folder is made under a hidden name and renamed when it is whole. Nothing is overwritten: the
next export of the project is its second version.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from freeswim import __version__
from freeswim.errors import MediaError, OutputError, RequestError
from freeswim.output import as_output_error, check_disk, check_place, workspace
from freeswim.request import Request
from freeswim.sidecar import file_sha256
from freeswim.timeline import aaf, blender, edl, fcp7, fcpxml, mlt
from freeswim.timeline.cut import JSON, Clip, Cut, Marker, Media, Track
from freeswim.timeline.editors import FILES, Editor, Kind
from freeswim.timeline.export import timeline_rate
from freeswim.timeline.master import Master, make_master, master_bytes
from freeswim.timeline.otio import otio_text
from freeswim.timeline.otioz import write_otioz
from freeswim.timeline.reading import cut_list
from freeswim.timeline.timecode import frames_of, timecode_of
from freeswim.video.codecs import find_codec
from freeswim.video.conform import Way, num_conformed

MANIFEST = "manifest.json"
SCHEMA = 1
LONGEST_NAME = 24  # of a project or shot in a file's name

OnStage = Callable[[str, int, int], None]  # what is made, frames done, frames in all


@dataclass(frozen=True)
class TakeFile:
    """One take that the studio has published."""

    path: Path
    number: int  # in its shot
    job_id: str
    sidecar: Mapping[str, Any]

    @property
    def request(self) -> Request:
        """What was asked for."""
        return Request.parse(self.sidecar["request"])

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exact."""
        return Fraction(self.sidecar["media"]["frame_rate"])

    @property
    def num_frames(self) -> int:
        """How many it has."""
        return int(self.sidecar["media"]["frames"])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return int(self.sidecar["media"]["width"]), int(self.sidecar["media"]["height"])


@dataclass(frozen=True)
class ShotFiles:
    """A shot with the take that is in the cut, and others that go along."""

    name: str
    active: TakeFile
    others: tuple[TakeFile, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """How an export is to be."""

    project: str
    editor: Editor
    rate: Fraction | None = None  # of the timeline; None: what suits the takes
    codec: str = ""  # of the masters; empty: the editor's
    way: Way = "interpolate"  # how a take becomes another rate
    handles: int = 0  # frames of each take before and after what is on the timeline
    start: str = "01:00:00:00"  # timecode of the timeline's first frame
    takes_as: Literal["none", "keys", "tracks"] = "keys"  # where the other takes are
    with_proxies: bool = False
    with_native: bool = False


@dataclass(frozen=True)
class Delivered:
    """What was made."""

    folder: Path
    timelines: tuple[Path, ...]
    num_frames: int
    notes: tuple[str, ...]  # what a format could not hold


def deliver(
    shots: Sequence[ShotFiles], wanted: Wanted, root: Path, *, on_stage: OnStage | None = None
) -> Delivered:
    """Make the folder in `root`, whole or not at all.

    Args:
        shots: in the order of the cut, 1 or more.
        root: a folder that exists.
        on_stage: called as the masters come along; may raise to stop.

    Raises:
        RequestError: it cannot be made so.
        MediaError: a take is missing or was changed.
        OutputError: the disk is full, or the folder cannot be written.
    """
    if not shots:
        raise RequestError("There are no takes to export.", hint="Approve a take first.")
    plan = _Plan.of(shots, wanted)
    folder = _free_folder(root, f"{plan.project}_{wanted.editor.name}")
    check_place(folder, overwrite=False)
    check_disk(folder, plan.disk_bytes)
    with as_output_error(folder), workspace(folder) as parent:
        making = parent / folder.name
        making.mkdir()
        delivered = _Delivery(plan, making, folder, on_stage).make()
        making.rename(folder)
    return delivered


@dataclass(frozen=True)
class _Plan:
    """Everything that is decided before a frame is read."""

    wanted: Wanted
    shots: tuple[ShotFiles, ...]
    project: str  # as it is in names of files
    rate: Fraction
    codec: str
    size: tuple[int, int]  # of the timeline

    @classmethod
    def of(cls, shots: Sequence[ShotFiles], wanted: Wanted) -> _Plan:
        fastest = max(shot.active.frame_rate for shot in shots)
        rate = wanted.rate or timeline_rate(fastest)
        widest = max((shot.active.size for shot in shots), key=lambda size: size[0] * size[1])
        codec = wanted.codec or wanted.editor.codec
        if find_codec(codec).is_sequence:
            raise RequestError(
                f"A timeline cannot be of picture sequences ({codec}).",
                hint="Choose a codec of one file; `freeswim takes export` writes sequences.",
            )
        frames_of(wanted.start, rate)
        plan = cls(wanted, tuple(shots), file_word(wanted.project), rate, codec, widest)
        for shot in shots:
            if plan.frames_of(shot.active) <= 2 * wanted.handles:
                raise RequestError(
                    f"{shot.name} has {plan.frames_of(shot.active)} frames, too few for "
                    f"{wanted.handles} frames of handles on both sides.",
                    hint="Ask for shorter handles.",
                )
        return plan

    @property
    def takes(self) -> list[tuple[ShotFiles, TakeFile]]:
        """Each take that is exported, with its shot."""
        with_others = self.wanted.takes_as != "none"
        return [
            (shot, take)
            for shot in self.shots
            for take in (shot.active, *(shot.others if with_others else ()))
        ]

    def frames_of(self, take: TakeFile) -> int:
        """Whole frames of the timeline that a take fills."""
        return num_conformed(take.num_frames, take.frame_rate, self.rate)

    def stem_of(self, shot: ShotFiles, take: TakeFile) -> str:
        """The name of a take's files: the same for ever, so that it is found again by it."""
        return f"FS_{self.project}_{file_word(shot.name)}_t{take.number:02d}_{take.job_id[:8]}"

    @property
    def disk_bytes(self) -> int:
        """What the masters and all that goes along take, about."""
        needed = 0
        for _, take in self.takes:
            frames = self.frames_of(take)
            needed += master_bytes(self.codec, take.size, frames)
            if self.wanted.with_proxies:
                needed += master_bytes("prores-proxy", take.size, frames)
            if self.wanted.with_native:
                needed += take.path.stat().st_size if take.path.is_file() else 0
        return needed * (2 if "otioz" in self.wanted.editor.kinds else 1)


class _Delivery:
    """One export under way."""

    def __init__(self, plan: _Plan, making: Path, folder: Path, on_stage: OnStage | None) -> None:
        self._plan = plan
        self._wanted = plan.wanted
        self._making = making
        self._folder = folder  # where it will be: timelines name their media there
        self._on_stage = on_stage
        self._notes: list[str] = []
        self._masters: dict[str, Master] = {}  # by the take's job
        self._media = making if plan.wanted.editor.is_flat else making / "media"

    def make(self) -> Delivered:
        self._media.mkdir(exist_ok=True)
        (self._making / "sidecar").mkdir()
        for shot, take in self._plan.takes:
            self._make_media(shot, take)
        cut = self._cut()
        cut.check()
        timelines = [path for kind in self._wanted.editor.kinds for path in self._write(kind, cut)]
        self._write_table()
        self._write_readme(timelines)
        self._write_manifest(cut, timelines)
        return Delivered(
            self._folder,
            tuple(self._folder / path.name for path in timelines),
            cut.num_frames,
            tuple(self._notes),
        )

    # ------------------------------------------------------------------------------- media

    def _make_media(self, shot: ShotFiles, take: TakeFile) -> None:
        stem = self._plan.stem_of(shot, take)
        if file_sha256(take.path) != take.sidecar["media"]["sha256"]:
            raise MediaError(
                f"{take.path.name} was changed since it was made.", hint="Restore the take's file."
            )
        self._masters[take.job_id] = self._master(take, self._media, stem, self._plan.codec)
        if self._wanted.with_proxies:
            (self._making / "proxy").mkdir(exist_ok=True)
            self._master(take, self._making / "proxy", f"{stem}_proxy", "prores-proxy")
        if self._wanted.with_native:
            (self._making / "native").mkdir(exist_ok=True)
            shutil.copyfile(take.path, self._making / "native" / f"{stem}_native.mp4")
        sidecar = self._making / "sidecar" / f"{stem}.json"
        sidecar.write_text(json.dumps(take.sidecar, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def _master(self, take: TakeFile, folder: Path, stem: str, codec: str) -> Master:
        path = folder / f"{stem}{find_codec(codec).extension}"

        def report(done: int, of: int) -> None:
            if self._on_stage is not None:
                self._on_stage(path.name, done, of)

        request = take.request
        return make_master(
            take.path,
            path,
            codec=codec,
            rate=self._plan.rate,
            num_frames=self._plan.frames_of(take),
            way=self._wanted.way,
            comes_from=request.clip.path if request.clip is not None else None,
            comes_from_frame=request.clip_start,
            reel=f"FS{take.job_id[:6].upper()}",
            comment=json.dumps(take.sidecar["request"], sort_keys=True, ensure_ascii=False),
            on_frame=report,
        )

    # --------------------------------------------------------------------------------- cut

    def _cut(self, media_in: Path | None = None) -> Cut:
        """The timeline, its media where it will be, or in another folder."""
        clips = [self._clip(shot, media_in) for shot in self._plan.shots]
        tracks = [Track("V1", tuple(clips))]
        if self._wanted.takes_as == "tracks":
            tracks += self._take_tracks(media_in)
        width, height = self._plan.size
        return Cut(
            self._wanted.project,
            self._plan.rate,
            width,
            height,
            tuple(tracks),
            start_frame=frames_of(self._wanted.start, self._plan.rate),
            metadata={"project": self._wanted.project},
        )

    def _take_tracks(self, media_in: Path | None) -> list[Track]:
        """The other takes over the first, disabled; shots that have fewer are filled with theirs."""
        most = max(len(shot.others) for shot in self._plan.shots)
        return [
            Track(
                f"V{number + 2}",
                tuple(
                    replace(
                        self._clip(shot, media_in, (*shot.others, shot.active)[number])
                        if number < len(shot.others)
                        else self._clip(shot, media_in),
                        is_enabled=False,
                    )
                    for shot in self._plan.shots
                ),
            )
            for number in range(most)
        ]

    def _clip(self, shot: ShotFiles, media_in: Path | None, take: TakeFile | None = None) -> Clip:
        active = take or shot.active
        others: dict[str, Media] = {}
        if self._wanted.takes_as == "keys" and take is None:
            others = {
                f"take_{other.number:02d}": self._media_of(shot, other, media_in)
                for other in shot.others
            }
        if self._wanted.with_proxies:
            others["proxy"] = self._proxy_of(shot, active, media_in)
        handles = self._wanted.handles
        shown = self._plan.frames_of(shot.active) - 2 * handles
        media = self._media_of(shot, active, media_in)
        prompt = active.request.prompt
        return Clip(
            name=media.name,
            media=media,
            start=min(handles, max(0, media.num_frames - shown)),
            num_frames=min(shown, media.num_frames),
            others=others,
            markers=(Marker(0, prompt),) if prompt else (),
            metadata=_facts(shot, active),
        )

    def _media_of(self, shot: ShotFiles, take: TakeFile, media_in: Path | None) -> Media:
        master = self._masters[take.job_id]
        folder = self._folder / self._media.relative_to(self._making)
        return Media(
            (media_in or folder) / master.path.name,
            master.num_frames,
            master.frame_rate,
            master.width,
            master.height,
            start_frame=master.start_frame,
            has_timecode=master.has_timecode,
            num_channels=master.num_channels,
            reel=master.reel,
            sha256=master.sha256,
            metadata=_facts(shot, take),
        )

    def _proxy_of(self, shot: ShotFiles, take: TakeFile, media_in: Path | None) -> Media:
        media = self._media_of(shot, take, media_in)
        folder = self._folder if media_in is None else self._making
        width, height = find_codec("prores-proxy").size(media.width, media.height)
        path = folder / "proxy" / f"{media.path.stem}_proxy.mov"
        return replace(media, path=path, width=width, height=height, sha256="")

    # --------------------------------------------------------------------------- timelines

    def _write(self, kind: Kind, cut: Cut) -> list[Path]:
        path = self._making / FILES[kind].format(name=self._plan.project, track="V1")
        match kind:
            case "otioz":
                write_otioz(path, self._cut(self._media))
            case "aaf":
                try:
                    self._notes += aaf.write_aaf(cut, path)
                except RequestError as error:
                    self._notes.append(f"There is no AAF: {error.message} {error.hint}")
                    return []
            case "edl":
                texts = edl.edl_texts(cut)
                paths = [
                    self._making / FILES["edl"].format(name=self._plan.project, track=track.name)
                    for track in cut.tracks
                ]
                for one, text in zip(paths, texts, strict=True):
                    _write_text(one, text)
                return paths
            case _:
                _write_text(path, self._text(kind, cut))
        return [path]

    def _text(self, kind: Kind, cut: Cut) -> str:
        folder = self._folder
        match kind:
            case "otio":
                return otio_text(cut, folder=folder, style=self._wanted.editor.url_style)
            case "fcpxml":
                return fcpxml.fcpxml_text(cut, folder)
            case "xml":
                return fcp7.fcp7_text(cut, folder)
            case "mlt":
                return mlt.mlt_text(cut, folder)
            case "kdenlive":
                return mlt.kdenlive_text(cut, folder)
            case "blender":
                return blender.blender_text(cut, folder)
            case _:
                raise AssertionError(kind)

    # ---------------------------------------------------------------------------- the rest

    def _write_table(self) -> None:
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(("shot", "take", "in cut", "file", "frames", "rate", "seed", "prompt"))
        for shot, take in self._plan.takes:
            master = self._masters[take.job_id]
            writer.writerow(
                (
                    _cell(shot.name),
                    take.number,
                    "yes" if take is shot.active else "",
                    master.path.name,
                    master.num_frames,
                    str(self._plan.rate),
                    take.request.seed,
                    _cell(take.request.prompt),
                )
            )
        _write_text(self._making / "takes.csv", table.getvalue())

    def _write_readme(self, timelines: Sequence[Path]) -> None:
        editor = self._wanted.editor
        names = {kind: "(not made)" for kind in FILES}
        for kind in editor.kinds:
            suffix = Path(FILES[kind]).suffix
            made = [path.name for path in timelines if path.suffix == suffix]
            names[kind] = ", ".join(made) or "(not made)"
        steps = [f"{number}. {step.format(**names)}" for number, step in enumerate(editor.steps, 1)]
        rate, codec = self._plan.rate, find_codec(self._plan.codec)
        lines = [
            f"{self._wanted.project}, exported for {editor.title} by FreeSwim {__version__}",
            "",
            *steps,
            "",
            f"Timeline: {rate} frames per second, from {self._wanted.start}.",
            f"Masters: {codec.title}. Takes of another rate were conformed ({self._wanted.way}).",
            "Names of media hold the job's id: keep them, and FreeSwim finds its takes again.",
            *self._about_sound(),
            "Check the folder with: freeswim verify FOLDER",
            *(f"Note: {note}" for note in self._notes),
        ]
        _write_text(self._making / "README.txt", "\n".join(lines) + "\n")

    def _about_sound(self) -> list[str]:
        if not any(master.num_channels for master in self._masters.values()):
            return []
        return ["Sound: of clips that have it, cut at the frames of their pictures."]

    def _write_manifest(self, cut: Cut, timelines: Sequence[Path]) -> None:
        files = sorted(path for path in self._making.rglob("*") if path.is_file())
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "app": f"FreeSwim {__version__}",
            "project": self._wanted.project,
            "editor": self._wanted.editor.name,
            "rate": str(self._plan.rate),
            "start": timecode_of(cut.start_frame, self._plan.rate),
            "num_frames": cut.num_frames,
            "timelines": [path.name for path in timelines],
            "cut": [used.model_dump(mode="json") for used in cut_list(cut)],
            "sound": [n for n, clip in enumerate(cut.clips()) if clip.media.has_audio],  # of cut
            "media": [
                {
                    "file": (self._media / master.path.name).relative_to(self._making).as_posix(),
                    "job_id": job_id,
                    "codec": self._plan.codec,
                    "frames": master.num_frames,
                    "width": master.width,
                    "height": master.height,
                    "frame_rate": str(master.frame_rate),
                }
                for job_id, master in self._masters.items()
            ],
            "files": {
                path.relative_to(self._making).as_posix(): file_sha256(path) for path in files
            },
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        _write_text(self._making / MANIFEST, text)


def _facts(shot: ShotFiles, take: TakeFile) -> dict[str, JSON]:
    """What travels with a clip and its media."""
    request = take.request
    return {
        "job_id": take.job_id,
        "shot": shot.name,
        "take": take.number,
        "prompt": request.prompt,
        "negative": request.negative_prompt,
        "seed": str(request.seed),
        "model": request.checkpoint,
        "gen_fps": str(take.frame_rate),
        "gen_size": "x".join(str(side) for side in take.size),
        "request_sha256": request.digest(),
    }


def file_word(text: str) -> str:
    """Words as a part of a file's name: A-Z a-z 0-9 and -, at most LONGEST_NAME characters."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:LONGEST_NAME].strip("-") or "x"


def _cell(text: str) -> str:
    """Words that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _free_folder(root: Path, name: str) -> Path:
    folder, version = root / name, 1
    while folder.exists() or folder.is_symlink():
        version += 1
        folder = root / f"{name}_v{version:03d}"
    return folder


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except UnicodeEncodeError as error:
        raise OutputError(f"{path.name} cannot hold some of its words.") from error
