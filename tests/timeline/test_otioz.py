"""The bundle, opened by OpenTimelineIO."""

from __future__ import annotations

import zipfile
from fractions import Fraction
from pathlib import Path

import opentimelineio as otio
import pytest

from freeswim.errors import MediaError, OutputExists
from freeswim.timeline.cut import Clip, Cut, Media, Track
from freeswim.timeline.otioz import bundled_names, write_otioz

FILM = Fraction(24000, 1001)


def media_in(folder: Path, place: str) -> Media:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"the film {place}".encode() * 100)
    return Media(path, 100, FILM, 3840, 2160)


def example(folder: Path) -> Cut:
    """Two files of one name, names that no URL can hold, a take that is not in the cut."""
    first, second, take, proxy = (
        media_in(folder, place)
        for place in ("a/take.mov", "b/TAKE.mov", "müde #50%.mov", "proxy/take.mov")
    )
    clips = (
        Clip("one", first, 0, 10, {"take_02": take, "proxy": proxy}),
        Clip("two", second, 5, 10),
        Clip("again", first, 20, 10),
    )
    return Cut("Pond", FILM, 3840, 2160, (Track("V1", clips),))


def bundle_of(folder: Path) -> Path:
    write_otioz(folder / "pond.otioz", example(folder))
    return folder / "pond.otioz"


def test_every_reference_is_in_the_bundle_under_a_name_of_its_own(tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle_of(tmp_path)) as bundle:
        assert bundle.testzip() is None
        assert bundle.read("version.txt") == b"1.0.0"
        names = bundle.namelist()
        media = [name for name in names if name.startswith("media/")]
        assert len({name.lower() for name in media}) == 4
        assert {bundle.getinfo(name).compress_type for name in media} == {zipfile.ZIP_STORED}
        timeline = otio.adapters.read_from_string(bundle.read("content.otio").decode(), "otio_json")
    assert isinstance(timeline, otio.schema.Timeline)
    urls = [
        ref.target_url for clip in timeline.find_clips() for ref in clip.media_references().values()
    ]
    assert set(urls) == set(media)


def test_it_opens_where_it_is_moved_and_holds_the_right_bytes(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "out").mkdir(parents=True)
    bundle = bundle_of(tmp_path).rename(there / "moved.otioz")
    timeline = otio.adapters.read_from_file(str(bundle), extract_to_directory=str(there / "out"))
    assert isinstance(timeline, otio.schema.Timeline)
    first, second, _ = timeline.find_clips()
    references = {**first.media_references(), "second": second.media_reference}
    content = {
        key: (there / "out" / reference.target_url).read_bytes()[:22]
        for key, reference in references.items()
    }
    wanted = {"DEFAULT_MEDIA": "a/take", "second": "b/TAKE", "take_02": "müde", "proxy": "proxy/ta"}
    for key, start in wanted.items():
        assert content[key].startswith(f"the film {start}".encode())


def test_the_same_cut_gives_the_same_bytes(tmp_path: Path) -> None:
    first = bundle_of(tmp_path).read_bytes()
    write_otioz(tmp_path / "pond.otioz", example(tmp_path), overwrite=True)
    assert (tmp_path / "pond.otioz").read_bytes() == first


def test_large_media_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit of plain zip files made small; 4 GB were tried by hand."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    with zipfile.ZipFile(bundle_of(tmp_path)) as bundle:
        entry = bundle.getinfo("media/take.mov")
        assert entry.file_size > 1000
        assert entry.extract_version == zipfile.ZIP64_VERSION
        assert bundle.testzip() is None


def test_missing_media_leaves_nothing(tmp_path: Path) -> None:
    cut = example(tmp_path)
    (tmp_path / "proxy/take.mov").unlink()
    with pytest.raises(MediaError, match="is missing"):
        write_otioz(tmp_path / "pond.otioz", cut)
    assert not list(tmp_path.glob("*.otioz")) and not list(tmp_path.glob(".*"))


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "pond.otioz").write_text("mine", "utf-8")
    with pytest.raises(OutputExists):
        write_otioz(tmp_path / "pond.otioz", example(tmp_path))
    assert (tmp_path / "pond.otioz").read_text("utf-8") == "mine"


def test_names_stay_apart_in_any_case() -> None:
    paths = [
        Path("/a/x.mov"),
        Path("/b/X.mov"),
        Path("/c/x-2.mov"),
        Path("/a/x.mov"),
        Path("/d/é ?"),
    ]
    assert list(bundled_names(paths).values()) == ["x.mov", "X-2.mov", "x-2-2.mov", "_"]
