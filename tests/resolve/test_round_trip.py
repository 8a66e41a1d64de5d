"""Nothing stands in for anything but Resolve: from a click in it to a take in its place, in every
edition, at every rate.

The daemon, its worker with the checkpoint that comes along, the masters and the plugin are those
that people have: Python scripts as child processes of Resolve, the Lua script where Resolve lists
no others. The fake looks into each file that it is given, so that a master with another rate or
fewer frames than the timeline needs is placed as wrongly as Resolve would place it.

Each edition meets each rate, from one of the two starts; each start meets each edition, rate and
story. With --all-trips each rate is met from both starts in every edition.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fake_resolve import TIERS, Host, World
from fake_resolve.objects import MediaPoolItem, TimelineItem
from fake_resolve.rates import RATES
from living import install_menu, living_in, until
from lua_host import Script
from PIL import Image
from pythons import find

from freeswim import paths
from freeswim.errors import FreeswimError
from freeswim.studio import client
from freeswim.studio.client import Client
from freeswim.video.writer import write_video

Json = dict[str, Any]

TIMELINES = ("23.976", "24", "25", "29.97 DF", "30", "50", "59.94")
STARTS = ("01:00:00:00", "00:00:00:00")
QUICK = "preset: demo\nwidth: 256\nheight: 128\nbase.steps: 2\nrefine.steps: 2\nstrength: 0.5"


@dataclass
class Meant:
    """What a story wants to find on the timeline."""

    record_frame: int
    length: int
    handles: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (256, 128)
    over: TimelineItem | None = None  # the clip in whose take selector it is
    request: Mapping[str, Any] = field(default_factory=dict[str, Any])  # what of it was asked for


class Inside:
    """A Resolve that runs, and an editor at its menu."""

    def __init__(self, tier: str, folder: Path, python: str) -> None:
        self.world = World(tier=tier, number=list(TIERS).index(tier))
        self._python = python
        self._menu = install_menu(folder)
        self._host = Host(self.world, folder)
        self._scripts: list[Script] = []
        profile = paths.fusion_profiles() / tier
        profile.mkdir(parents=True)
        self.world.profiles = [profile]

    def choose(self, verb: str) -> None:
        """A menu entry."""
        if self.world.lists_python:
            self._host.run(self._menu(verb), self._python)
        else:
            self._scripts.append(Script(self.world, paths.mailbox(), verb).start())

    def check_link(self, studio: Client) -> None:
        """The daemon knows which Resolve this is, and nobody else is connected."""
        (link,) = until(lambda: _alone(studio), "a menu entry has not said bye")
        assert link["version"] == ".".join(map(str, self.world.version))
        assert link["edition"] == ("studio" if self.world.is_studio else "free")
        assert link["transport"] == ("http" if self.world.lists_python else "mailbox")
        assert link["is_owner"] and link["project"] == self.world.film.id

    def close(self) -> None:
        for script in self._scripts:
            script.stop()
            assert script.error == ""
        self._host.close()
        assert self.world.misuses == []


class Edit:
    """A timeline of its own in a Resolve, with a clip of the editor's; what they do with it."""

    def __init__(
        self, inside: Inside, rate: str, start: str, studio: Client, footage: Path
    ) -> None:
        self.world = inside.world
        self.studio = studio
        self._inside = inside
        self._footage = footage
        self.world.rate, self.world.start_timecode = rate, start
        self.film = self.world.open_project(f"{rate} from {start}")
        self.timeline = self.world.timeline
        self.rate = RATES[rate]
        self.clip = self.put_clip(0, 24)
        self.timeline.playhead = self.timeline.start + 10

    def put_clip(self, offset: int, length: int) -> TimelineItem:
        """Footage on the first track, from its frame 6 on."""
        media = self.world.media_in(str(self._footage))
        assert media is not None
        clip = MediaPoolItem(self.world, str(self._footage), media)
        self.film.pool.root.clips.append(clip)
        return self.timeline.put(clip, 1, offset, length, 6)

    def mark(self, offset: int, note: str, *, length: int = 1, name: str = "Marker 1") -> None:
        self.timeline.markers[offset] = {
            "color": "Mint",
            "name": name,
            "note": note,
            "duration": float(length),
            "customData": "",
        }

    def choose(self, verb: str, news: str) -> None:
        """A menu entry, and what is said of it."""
        clicked = time.time()
        self._inside.choose(verb)

        def said() -> Json | None:
            found = self.studio.get("/resolve")["news"]
            return found[0] if found and found[0]["at"] >= clicked else None

        found = until(said, f"nothing is said of {verb}")
        assert f"{found['message']} {found['hint']}".strip() == news

    def write_prompt(self, **changes: Any) -> Json:
        """In the app: what the shot shows. The wish as it was kept."""
        wishes = self.studio.get("/resolve")["wishes"]
        (wish,) = [one for one in wishes if self._is_here(one["shot"])]
        request = {**wish["request"], "prompt": "two orange koi", **changes}
        request = {name: value for name, value in request.items() if value is not None}
        steps = {"base": {"steps": 2}, "refine": {"steps": 2, "strength": 0.5}}
        self.studio.submit(
            {"shot_id": wish["shot"]["id"], "preset": "demo", "request": {**request, **steps}}
        )
        return wish

    def take(self) -> Json | None:
        """The take that was made here."""
        for take in self.studio.get("/takes")["takes"]:
            if self._is_here(self.studio.get(f"/shots/{take['shot_id']}")["shot"]):
                return take
        return None

    def placed(self) -> Json | None:
        """The take, once there is an end to its way."""
        take = self.take()
        placing = take and take["placing"]
        return take if placing and placing["state"] in ("placed", "pool", "failed") else None

    def _is_here(self, shot: Json) -> bool:
        return shot["placement"]["resolve"]["project"] == self.film.id


def _alone(studio: Client) -> list[Json]:
    links = studio.get("/resolve")["links"]
    return links if len(links) == 1 else []


# ------------------------------------------------------------------------------------- stories


def markers(edit: Edit) -> Meant:
    edit.mark(30, f"two orange koi\n{QUICK}\nseed: 7", length=12, name="Pond")
    edit.choose("generate_from_markers", "1 shot queued.")
    return Meant(edit.timeline.start + 30, 12, request={"prompt": "two orange koi", "seed": 7})


def playhead(edit: Edit) -> Meant:
    """As small as ProRes alone can be."""
    edit.choose("generate_at_playhead", "1 shot kept: write the prompt in FreeSwim.")
    edit.timeline.playhead += 200  # the editor goes on
    edit.write_prompt(width=128, height=128)
    return Meant(edit.timeline.start + 10, round(edit.rate), size=(128, 128))


def again(edit: Edit) -> Meant:
    """With a handle on each side."""
    clip = edit.put_clip(40, 6)
    edit.timeline.playhead = clip.start + 3
    edit.mark(41, f"{QUICK}\nhandles: 2")
    edit.choose("regenerate_selection", "1 shot queued.")
    source = {"kind": "clip", "clip_start": 6 - 2, "frames": 10}
    return Meant(clip.start, 6, handles=(2, 2), request=source)


def as_take(edit: Edit) -> Meant:
    clip = edit.put_clip(40, 6)
    edit.timeline.playhead = clip.start + 3
    edit.mark(41, QUICK)
    edit.studio.patch("/resolve/settings", {"as_take": True})
    edit.choose("regenerate_selection", "1 shot queued.")
    return Meant(clip.start, 6, over=clip)


def gap(edit: Edit) -> Meant:
    """Its first and last picture are the frames of the footage on both sides."""
    edit.put_clip(30, 10)
    edit.timeline.playhead = edit.timeline.start + 27
    edit.choose("fill_gap", "1 shot kept: write the prompt in FreeSwim.")
    text = {"kind": "text", "checkpoint": "demo", "first_image": None, "last_image": None}
    wish = edit.write_prompt(**text, width=256, height=128)
    for name, shown in (("first_image", 6 + 23), ("last_image", 6)):
        with Image.open(wish["request"][name]["path"]) as picture:
            assert abs(float(np.asarray(picture).mean()) - brightness(shown)) < 2, name
    return Meant(edit.timeline.start + 24, 6)


def extend(edit: Edit) -> Meant:
    edit.choose("extend_clip", "1 shot kept: write the prompt in FreeSwim.")
    text = {"kind": "text", "checkpoint": "demo", "first_image": None}
    edit.write_prompt(**text, width=256, height=128)
    return Meant(edit.clip.end, round(edit.rate))


def finished(edit: Edit) -> Meant:
    """Nothing goes to the timeline before the editor says so."""
    edit.studio.patch("/resolve/settings", {"places_by_itself": False})
    edit.mark(30, f"two orange koi\n{QUICK}", length=9)
    edit.choose("generate_from_markers", "1 shot queued.")
    assert until(edit.take, "no take is made")["placing"] is None
    edit.choose("place_finished_takes", "1 take on the way to the timeline.")
    return Meant(edit.timeline.start + 30, 9)


STORIES = (markers, playhead, again, as_take, gap, extend, finished)


# ---------------------------------------------------------------------------------------- trips


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Camera originals by their rate, brighter with every frame."""
    folder = tmp_path_factory.mktemp("footage")

    def made(rate: str) -> Path:
        path = folder / f"pond {rate}.mov"
        if not path.exists():
            shades = [
                np.full((128, 256, 3), round(brightness(n) * 257), np.uint16) for n in range(40)
            ]
            write_video(
                path,
                shades,
                codec="dnxhr-hqx",
                width=256,
                height=128,
                frame_rate=RATES[rate],
                num_frames=len(shades),
            )
        return path

    return made


def brightness(frame: int) -> float:
    """Of the footage, 0 to 255."""
    return 20 + 5 * frame


@pytest.fixture(scope="module", params=TIERS)
def inside(
    request: pytest.FixtureRequest, real_studio: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inside]:
    """A Resolve of an edition, for all its trips; the scripts of each run under another Python."""
    pythons = [program for _, program in sorted(find().items(), key=_number)]
    tiers = list(TIERS)
    tier = request.param
    real_studio.patch("/resolve/settings", {"preset": "demo", "size": "preset", "seconds": 1})
    opened = Inside(
        tier, tmp_path_factory.mktemp("resolve"), pythons[tiers.index(tier) % len(pythons)]
    )
    yield opened
    opened.close()


def _number(found: tuple[str, str]) -> list[int]:
    return [int(part) for part in found[0].split(".")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "turn" in metafunc.fixturenames:
        turns = len(STARTS) if metafunc.config.getoption("--all-trips") else 1
        metafunc.parametrize("turn", range(turns))


def trip_of(row: int, column: int, turn: int) -> tuple[str, Callable[[Edit], Meant]]:
    """(start, story) of an edition and a rate: they take turns."""
    start = STARTS[(row + column + turn) % len(STARTS)]
    return start, STORIES[(row + 2 * column + 3 * turn) % len(STORIES)]


def test_every_pair_is_among_the_trips():
    trips = [
        (tier, rate, *trip_of(row, column, 0))
        for row, tier in enumerate(TIERS)
        for column, rate in enumerate(TIMELINES)
    ]
    parts = [list(TIERS), list(TIMELINES), list(STARTS), list(STORIES)]
    for one, other in itertools.combinations(range(len(parts)), 2):
        met = {(trip[one], trip[other]) for trip in trips}
        assert met == set(itertools.product(parts[one], parts[other]))


@pytest.mark.parametrize("column", range(len(TIMELINES)), ids=TIMELINES)
def test_a_take_comes_to_its_place(
    inside: Inside,
    column: int,
    turn: int,
    real_studio: Client,
    footage: Callable[[str], Path],
):
    rate = TIMELINES[column]
    start, story = trip_of(list(TIERS).index(inside.world.tier), column, turn)
    real_studio.patch("/resolve/settings", {"as_take": False, "places_by_itself": True})
    edit = Edit(inside, rate, start, real_studio, footage(rate))
    meant = story(edit)
    with edit.world.by_hand():
        edits = [*edit.timeline.video[0].items]
        stood = edit.timeline.playhead
    take = until(edit.placed, "the take does not come to an end")

    # What the timeline shows, and what is said of it.
    where = edit.timeline.rate.timecode(meant.record_frame)
    placing = take["placing"]
    assert placing["state"] == "placed", placing
    assert (edit.timeline.video[0].items, edit.timeline.playhead) == (edits, stood)
    if meant.over is None:
        assert placing["message"] == f"On V2 at {where}."
        assert [track.name for track in edit.timeline.video] == ["Video 1", "FreeSwim"]
        (item,) = edit.timeline.video[1].items
        assert (item.start, item.length) == (meant.record_frame, meant.length)
        assert item.source == meant.handles[0]
        clip = item.clip
    else:
        assert placing["message"] == f"In the take selector of the clip at {where} on V1."
        assert len(edit.timeline.video) == 1
        assert meant.over.shown_take == 1  # what it showed before
        clip, start, end = meant.over.takes[1]
        assert (start, end) == (meant.handles[0], meant.handles[0] + meant.length)
    assert clip is not None
    (folder,) = edit.film.pool.root.folders
    assert (folder.name, folder.clips) == ("FreeSwim", [clip])
    assert edit.film.pool.current is edit.film.pool.root
    stored = clip.third_party or clip.metadata
    assert take["id"] in str(stored)
    until(lambda: not ours_of(edit), "its marker stays")
    assert edit.world.misuses == []
    inside.check_link(real_studio)
    with pytest.raises(FreeswimError, match="was placed already"):
        real_studio.post(f"/takes/{take['id']}/place")
    asked = real_studio.get(f"/takes/{take['id']}")["sidecar"]["request"]
    assert {name: asked[name] for name in meant.request} == meant.request
    check_master(Path(clip.path), paths.takes() / take["file"], edit.rate, meant, take)


@pytest.mark.parametrize("tier", ["free 20.3", "free 21.1"])
def test_a_daemon_that_is_killed_in_the_middle_is_nothing_to_the_editor(
    tier: str, tmp_path: Path, footage: Callable[[str], Path]
):
    """The script that was there goes on, and so does the job; nobody clicks again."""
    with living_in(tmp_path) as studio, closing(Inside(tier, tmp_path, sys.executable)) as inside:
        edit = Edit(inside, "25", "01:00:00:00", studio, footage("25"))
        edit.mark(30, f"two orange koi\n{QUICK}", length=10)
        edit.choose("generate_from_markers", "1 shot queued.")
        until(lambda: studio.get("/queue")["counts"].get("running"), "the job does not run")
        os.kill(studio.pid, signal.SIGKILL)
        until(lambda: client.connect() is None, "the daemon lives")
        client.connect_or_start()
        take = until(edit.placed, "the take does not come to an end")
        assert take["placing"]["message"] == "On V2 at 01:00:01:05."
        (item,) = edit.timeline.video[1].items
        assert (item.start, item.length) == (edit.timeline.start + 30, 10)
        assert len(studio.get("/takes")["takes"]) == 1


def ours_of(edit: Edit) -> list[Json]:
    """Markers that FreeSwim has set."""
    with edit.world.by_hand():
        marks = list(edit.timeline.markers.values())
    return [one for one in marks if one["note"] == "FreeSwim puts a take here."]


def check_master(path: Path, take_path: Path, rate: Fraction, meant: Meant, take: Json) -> None:
    """Looked at by what did not write it."""
    master, shown = pixels(path), pixels(take_path)
    count = meant.length + sum(meant.handles)
    with av.open(str(path)) as file:
        (stream,) = file.streams
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        assert (stream.average_rate, stream.frames, len(master)) == (rate, count, count)
        times = [packet.pts * packet.time_base for packet in file.demux(stream) if packet.size]
        assert times == [n / rate for n in range(count)]
        assert (context.width, context.height) == meant.size
        is_prores = sys.platform == "darwin" or meant.size < (256, 120)
        kind = ("prores", "HQ") if is_prores else ("dnxhd", "DNXHR HQX")
        assert (context.name, context.profile, context.pix_fmt) == (*kind, "yuv422p10le")
        tags = [context.color_primaries, context.color_trc, context.colorspace]
        assert [int(tag) for tag in tags] == [1, 1, 1]  # BT.709
        assert stream.metadata.get("timecode", "00:00:00:00") == "00:00:00:00"
        assert file.metadata["comment"] == f"freeswim:{take['job_id']}"
    assert float(np.abs(master[0] - shown[0]).mean()) < 3
    assert float(master[0].mean()) > 10
    assert abs(float(master.mean()) - float(shown.mean())) < 3


def pixels(path: Path) -> np.ndarray:
    """All frames, RGB, 0 to 255."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    return np.stack(frames).astype(np.float32)
