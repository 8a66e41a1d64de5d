"""`freeswim bench` runs and says what it measured; how fast it was is no test's business."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from freeswim.bench import coding, speed
from freeswim.cli.main import main
from freeswim.errors import FreeswimError
from freeswim.video.codecs import CODECS


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> dict:
    assert main(["bench", *arguments, "--quick", "--device", "cpu"]) == 0
    return json.loads(Path("freeswim-bench.json").read_text("utf-8"))


@dataclass(frozen=True)
class Whole:
    """What `freeswim bench all` wrote and said."""

    report: dict
    out: str
    err: str

    def of(self, benchmark: str) -> dict[str, dict]:
        """Its results, by their ways."""
        every = self.report["results"]
        return {one["way"]: one for one in every if one["benchmark"] == benchmark}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(tmp_path_factory.mktemp("bench")),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        return Whole(run("all"), out.getvalue(), err.getvalue())


def test_all_prints_tables_and_writes_the_machine_versions_and_commit(whole: Whole):
    report = whole.report
    assert set(report) == {
        "machine", "versions", "commit", "shape", "clock", "results", "notes",
    }  # fmt: skip
    assert {"cpu", "cores", "threads", "gpu", "load_at_start", "load_at_end"} <= set(
        report["machine"]
    )
    assert {"freeswim", "python", "torch", "diffusers"} <= set(report["versions"])
    assert report["commit"] is None or len(report["commit"].removesuffix("-dirty")) == 40
    assert [result["benchmark"] for result in report["results"]] == (
        ["attention"] * 2 + ["refine"] * 6 + ["autoencoder"] * 4 + ["write"] * len(CODECS)
    )
    for result in report["results"]:
        assert result["seconds"] > 0 and len(result["rounds"]) == 1
    for word in ("tiled", "official", "h264", "frames/s", "freeswim-bench.json"):
        assert word in whole.out
    assert "round 1 of 1" in whole.err


def test_refine_is_measured_against_full_attention_and_the_official_cost_and_agrees(whole: Whole):
    results = whole.of("refine")
    for interval in (2, 5):
        ours = results[f"freeswim, interval {interval}"]
        assert set(ours["ratios"]) == {"faster than full attention", "faster than official cost"}
        assert ours["relative_error"] < 1e-5
        assert set(results[f"official cost, interval {interval}"]["ratios"]) == {
            "faster than full attention"
        }


def test_window_attention_is_compared_with_full_attention_and_with_the_ideal(whole: Whole):
    full, tiled = whole.of("attention").values()
    assert full["ratios"] == {"faster than full": 1, "× ideal": 1}
    share = 5 * 7 / (10 * 12)  # of the keys, in windows of 5 by 7 on 10 by 12 tokens
    assert tiled["ratios"]["× ideal"] == pytest.approx(
        tiled["seconds"] / full["seconds"] / share, rel=1e-6
    )


def test_autoencoder_is_measured_against_diffusers_own_with_the_memory_of_both(whole: Whole):
    results = whole.of("autoencoder")
    assert list(results) == [
        "decode and write, freeswim", "decode and write, diffusers",
        "encode, freeswim", "encode, diffusers",
    ]  # fmt: skip
    tells_memory = Path("/proc/self/clear_refs").exists()
    for way, result in results.items():
        assert ("faster than diffusers" in result["ratios"]) == ("freeswim" in way)
        assert (speed.PEAK in result["ratios"]) == tells_memory
        assert result["case"] == "64x48, 5 frames"
    ours, theirs = (results[f"decode and write, {by}"] for by in ("freeswim", "diffusers"))
    assert ours["ratios"]["faster than diffusers"] == theirs["seconds"] / ours["seconds"]
    assert bool(whole.report["notes"]) == (not tells_memory)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells it only")
def test_peak_memory_is_that_of_the_work_alone():
    before = coding._start_peak()
    assert before is not None
    ballast = torch.ones(1 << 24)  # 64 MiB
    del ballast
    above = coding._memory("VmHWM") - before
    assert 60 << 20 < above < 72 << 20  # the kernel counts pages a little late
    after = coding._start_peak()
    assert after is not None and coding._memory("VmHWM") - after < 8 << 20


def test_frames_that_the_autoencoder_does_not_have_are_refused(capsys):
    assert main(["bench", "autoencoder", "--quick", "--frames", "8", "--device", "cpu"]) == 2
    assert "Use 9" in capsys.readouterr().err


def test_a_way_of_coding_that_fails_is_named_with_what_it_said():
    case = coding.Coding("encode, freeswim", 64, 48, 5, "no such device", 1)
    with pytest.raises(FreeswimError, match=r"encode, freeswim of 64x48 failed: .*device"):
        coding.measure(case)


def test_outside_a_checkout_the_official_cost_is_left_out_with_a_note(monkeypatch, capsys):
    monkeypatch.setattr(speed, "OFFICIAL_COST", Path("nowhere.py"))
    report = run("refine")
    assert report["notes"] == ["Not a checkout: the official cost is left out."]
    assert not [result for result in report["results"] if "official" in result["way"]]
    assert report["notes"][0] in capsys.readouterr().err


def test_a_baseline_that_computes_something_else_is_no_baseline():
    outputs = {name: torch.ones(3) for name in speed._passes(speed.SHAPES["quick"])}
    outputs["official cost, interval 5"] = torch.full((3,), 1.01)
    with pytest.raises(FreeswimError, match="At interval 5"):
        speed._agreement(outputs, torch.float32)


def test_report_replaces_nothing_unless_told(capsys):
    Path("freeswim-bench.json").write_text("mine")
    assert main(["bench", "attention", "--quick"]) != 0
    assert "already there" in capsys.readouterr().err
    assert Path("freeswim-bench.json").read_text() == "mine"
    assert run("attention", "--overwrite")["shape"] == "quick"


def test_one_thread_is_measured_in_processor_time_and_others_come_back(capsys):
    threads = torch.get_num_threads()
    report = run("attention", "--threads", "1")
    assert (report["machine"]["threads"], report["clock"]) == (1, "processor")
    assert torch.get_num_threads() == threads


def test_ways_take_turns_so_that_drift_meets_all():
    order: list[str] = []
    stopwatch = speed._Stopwatch(torch.device("cpu"), 2, lambda text: None, "wall")
    stopwatch.alternate("", {name: lambda name=name: order.append(name) for name in "ab"})
    assert order == list("abab")


def test_for_programs_there_is_one_event(capsys):
    run("attention", "--json")
    shown = capsys.readouterr()
    assert json.loads(shown.out)["event"] == "bench"
