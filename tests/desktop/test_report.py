from __future__ import annotations

import getpass
import json
import platform
import re
import subprocess
import sys
import time
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from pytestqt.qtbot import QtBot

from desktop import trouble
from desktop.studio import Studio
from desktop.windows.redact import RUN, Redactor, Secrets
from desktop.windows.report import (
    LOG_BYTES,
    Facts,
    ReportWindow,
    last_job,
    secrets_of,
    write_report,
)
from freeswim import paths
from freeswim.studio import discovery
from freeswim.studio.client import Client
from freeswim.studio.job import Failure, Job, JobState, Shot, Take

# The platform of the tests has no window manager.
pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", "raise\\(\\)")

PROMPT = "Zwei rote Koi unter dem Eis,\nCaravaggio light — “for the Anna Case”"
NEGATIVE = "blurry watermark of Acme"
CLIENT = "Secret Client GmbH"
TOKEN = "T0ken_" + "x" * 37


def a_job(folder: Path, **fields: Any) -> Job:
    known: dict[str, Any] = {
        "id": "0123456789abcdef",
        "number": 7,
        "shot_id": "00000000000000aa",
        "shot_name": "Anna Case 010",
        "request": {
            "kind": "clip",
            "checkpoint": "wan2.1-t2v-1.3b",
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "width": 1920,
            "clip": {"path": str(folder / CLIENT / "A004 C012.mov"), "sha256": "ab" * 32},
            "loras": [{"file": {"path": "/mnt/nas/Acme look.safetensors"}, "weight": 0.5}],
            "refine": {"strength": 0.7, "attention": "auto"},
        },
        "request_sha256": "cd" * 32,
        "prompt": PROMPT,
        "state": JobState.FAILED,
        "failure": Failure(
            code="media",
            message=f"{folder / CLIENT / 'A004 C012.mov'} cannot be read.",
            hint="Try another.",
            details={"field": CLIENT, "needed_bytes": 12},
        ),
        "rank": 1.0,
        "started_at": 10.0,
        "created_at": 1.0,
        "seq": 1,
    }
    return Job(**known | fields)


A_TAKE = Take(
    id="00000000000000bb",
    shot_id="00000000000000aa",
    shot_name="Anna Case 010",
    job_id="0123456789abcdef",
    number=3,
    file="Anna-Case-010_take03.mp4",
    sha256="ef" * 32,
    width=1920,
    height=1080,
    frames=81,
    frame_rate="24",
    seed=5,
    prompt=PROMPT,
    is_draft=False,
    created_at=1.0,
    seq=2,
)
A_SHOT = Shot(
    id="00000000000000aa",
    name="Anna Case 010",
    placement={"project": "Harbor Murders", "timeline": "Reel 2"},
    created_at=1.0,
    seq=1,
)


@pytest.fixture
def private(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of somebody, with a studio's logs full of what is nobody's business."""
    person = tmp_path / "homes" / "anna.b"
    person.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.setenv("USERPROFILE", str(person))
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "annab")
    discovery.announce(1234, TOKEN)
    paths.logs().mkdir(parents=True)
    written = [
        f"2026-11-21 INFO serving {home} on port 4242",
        f"job 0123456789abcdef in {paths.jobs() / '0123456789abcdef' / 'attempt-2'} goes on",
        f"{paths.takes() / A_TAKE.file} cannot be written: no space",
        f"reading {person / CLIENT / 'A004 C012.mov'} of annab failed",
        f"reading '{person / CLIENT}/B x.mov' with ANNAB",
        json.dumps({"prompt": PROMPT, "path": str(person / CLIENT)}),
        f"the prompt {PROMPT!r} is long",
        f"the prompt {ascii(PROMPT)[:40]}… is cut short",
        f"GET /v1/jobs?search={urllib.parse.quote(PROMPT)} HTTP/1.1",
        "prompt: ZWEI  ROTE koi\n  unter dem eis",
        "shot Anna Case 010 and file Anna-Case-010_take03 of Harbor Murders",
        f"Authorization: Bearer {TOKEN}",
        f'{{"port": 1, "token": "{TOKEN}"}}',
        "hf_abcdefghijklmnopqrstuvwx was refused",
        f"an old one {'q' * 43} too",
        f"file:///{CLIENT}/x.mov and D:\\Cut\\{CLIENT}\\x.mov",
        f"\\\\nas\\{CLIENT}\\x",
        f"PATH=/usr/bin:/opt/{CLIENT}/bin",
        f"host {platform.node()} says {NEGATIVE.upper()}",
        f'  File "{Path(json.__file__)}", line 3, in loads',
        f'  File "{Path(trouble.__file__)}", line 12, in _catch',
    ]
    for name in ("studio.log", "worker.log", "app.log", "app.log.1", "crash.log"):
        (paths.logs() / name).write_text("\n".join(written), encoding="utf-8")
    return person


def leaks(person: Path, home: Path) -> list[str]:
    """What must not be in a report, in lower case."""
    return [
        *(str(person), str(home), "anna", "secret client", "acme", "caravaggio", "rote koi"),
        *("unter dem", "zwei rote", "harbor murders", "reel 2", "c012", "take03", "case 010"),
        *(TOKEN, "hf_abc", "q" * 43, "nas", "gmbh"),
        *([platform.node()] if len(platform.node()) > 3 else []),
    ]


def members(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as report:
        assert report.testzip() is None
        return {name: report.read(name).decode() for name in report.namelist()}


def facts(private: Path, **fields: Any) -> Facts:
    secrets = secrets_of(
        [A_SHOT], [a_job(private)], [A_TAKE], {"s": {"prompt": "unsent words too"}}
    )
    known = {"job": a_job(private), "job_log": (paths.logs() / "app.log").read_text("utf-8")}
    machine = {"slots": [{"message": f"{private / CLIENT}: gone"}], "gpus": [{"name": "RTX 4090"}]}
    return Facts(**known | {"machine": machine, "secrets": secrets} | fields)


# ------------------------------------------------------------------------------------ what is in


def test_nothing_private_is_in_any_member(private: Path, home: Path, tmp_path: Path):
    (paths.logs() / "app.log.2").write_text("he typed Unsent words too!")
    path = write_report(tmp_path / "out", facts(private))
    found = members(path)
    assert set(found) == {
        *("system.json", "last job.json", "last job.log", "studio.log", "worker.log"),
        *("app.log", "app.log.1", "app.log.2", "crash.log"),
    }
    for name, text in found.items():
        for leak in [*leaks(private, home), "unsent words"]:
            assert leak.lower() not in text.lower(), (name, leak)
            assert leak.lower() not in name.lower()
    raw = path.read_bytes()
    assert TOKEN.encode() not in raw and b"anna" not in raw.lower()


def test_what_helps_is_still_in(private: Path, tmp_path: Path):
    found = members(write_report(tmp_path, facts(private)))
    log = found["studio.log"]
    assert "INFO serving <data> on port 4242" in log
    assert "job 0123456789abcdef in <data>/jobs/0123456789abcdef/attempt-2 goes on" in log
    assert 'File "<python>/json/__init__.py", line 3, in loads' in log
    assert 'File "<freeswim>/desktop/trouble.py", line 12, in _catch' in log
    assert "reading <home>/<path>\n" in log and "\n<takes>/<words>" in log
    job = json.loads(found["last job.json"])
    assert job["request"]["checkpoint"] == "wan2.1-t2v-1.3b" and job["request"]["width"] == 1920
    assert job["request"]["refine"] == {"strength": 0.7, "attention": "auto"}
    assert job["failure"]["code"] == "media" and job["failure"]["details"]["needed_bytes"] == 12
    assert job["request"]["prompt"] == job["shot_name"] == "<words>"
    system = json.loads(found["system.json"])
    assert system["machine"]["gpus"] == [{"name": "RTX 4090"}]
    assert {"freeswim", "python", "qt", "torch", "PySide6"} <= set(system["versions"])
    assert system["system"]["name"] == platform.system()


def test_ticked_prompts_and_names_are_in_and_who_it_is_still_not(
    private: Path, home: Path, tmp_path: Path
):
    secrets = Secrets(with_words=True)
    found = members(write_report(tmp_path, facts(private, secrets=secrets)))
    job = json.loads(found["last job.json"])
    assert job["request"]["prompt"] == PROMPT and job["shot_name"] == "Anna Case 010"
    assert job["request"]["clip"]["path"] == f"<home>/{CLIENT}/A004 C012.mov"
    for text in found.values():
        for leak in (str(private), str(home), "annab", "anna.b", TOKEN, "hf_abc"):
            assert leak not in text


def test_what_the_person_writes_is_in_as_they_wrote_it(private: Path, tmp_path: Path):
    said = f"I typed “two koi” into\nthe field; see {private}/x with {TOKEN}"
    found = members(write_report(tmp_path, facts(private, what_happened=said)))
    assert (
        found["what happened.txt"] == "I typed “two koi” into\nthe field; see <home>/x with <token>"
    )


def test_a_report_of_nothing_can_be_made(home: Path, tmp_path: Path):
    found = members(write_report(tmp_path, Facts()))
    assert list(found) == ["system.json"]


def test_a_long_log_is_its_end_in_whole_lines(home: Path, tmp_path: Path):
    paths.logs().mkdir(parents=True)
    (paths.logs() / "studio.log").write_bytes(b"\xff\xfe line\n" * (LOG_BYTES // 4))
    text = members(write_report(tmp_path, Facts()))["studio.log"]
    assert text.startswith("\ufffd\ufffd line\n") and len(text.encode()) <= 2 * LOG_BYTES


def test_a_folder_that_refuses_leaves_nothing(home: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        write_report(tmp_path / "file", Facts())


def test_the_last_job_is_the_one_last_touched(tmp_path: Path):
    old = a_job(tmp_path, id="1" * 16, started_at=5.0, ended_at=50.0)
    running = a_job(tmp_path, id="2" * 16, started_at=40.0)
    waiting = a_job(tmp_path, id="3" * 16, started_at=None, created_at=99.0)
    assert last_job([old, running, waiting]) is old
    assert last_job([waiting]) is None


# ------------------------------------------------------------------------------- redaction alone

WORD = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
SPACE = st.sampled_from([" ", "\n", ", ", " - ", "_", " “", "\t"])


@st.composite
def prompts(draw: st.DrawFn) -> str:
    words = draw(st.lists(WORD, min_size=RUN, max_size=12))
    return "".join(word + draw(SPACE) for word in words)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(prompt=prompts(), cut=st.integers(0, 60), around=st.text(max_size=20))
@example(prompt="a b c d", cut=0, around="/")
def test_no_run_of_a_prompts_words_is_left_however_it_was_written(
    home: Path, prompt: str, cut: int, around: str
):
    redactor = Redactor(Secrets(prompts=(prompt,)))
    ways = [
        prompt,
        prompt[cut:],
        prompt.upper() if prompt.upper().casefold() == prompt.casefold() else prompt,
        json.dumps({"x": prompt}),
        repr([prompt]),
        ascii(prompt),
        urllib.parse.quote(prompt),
        re.sub(r"\s", "\n   ", prompt),
    ]
    words = [word.casefold() for word in re.findall(r"[^\W_]+", prompt)]
    for way in ways:
        left = redactor.clean(f"{around} {way} {around}")
        rest = re.findall(r"[^\W_]+", left.replace("<words>", " | ").casefold())
        for at in range(len(words) - RUN + 1):
            run = words[at : at + RUN]
            own = re.findall(r"[^\W_]+", f"{around} {around}".casefold())
            if not _has_run(own, run):
                assert not _has_run(rest, run), (way, left)


def _has_run(words: list[str], run: list[str]) -> bool:
    return any(words[at : at + len(run)] == run for at in range(len(words)))


@pytest.mark.parametrize(
    "written",
    ["koi", "Koi.", "two_koi", "TWO KOI", "%7Btwo%20koi%7D", "水の中の鯉", "中の鯉が"],
)
def test_short_prompts_and_prompts_without_spaces_are_found(home: Path, written: str):
    secrets = Secrets(prompts=("koi", "two koi", "{two koi}", "水の中の鯉"))
    left = Redactor(secrets).clean(f"x {written} y")
    assert not {"koi", "two", "鯉", "水"} & set(re.findall(r"[a-z]+|\w", left.lower()))


@pytest.mark.parametrize(
    "text, left",
    [
        ("read /mnt/My Films/a b.mov: it is gone", "read <path>"),
        ("/mnt/My Films/b c.mov cannot be read: no space", "<path> cannot be read: no space"),
        ("in /mnt/Anna's Film/b.mov", "in <path>"),
        ("in '/mnt/Anna's Film/b.mov' now", "in '<path>"),
        ("cannot open '/mnt/My Films/a b.mov' now", "cannot open '<path>' now"),
        ('{"path": "/x/y z", "n": 1}', '{"path": "<path>", "n": 1}'),
        ("C:\\Users\\bob\\x.mov is gone\nnext", "<path>\nnext"),
        ("E:/Cuts/x.mov", "<path>"),
        ("\\\\server\\share\\x", "<path>"),
        ("~/Films/x.mov", "<path>"),
        ("file:///mnt/x y.mov", "<path>"),
        ("PATH=/usr/bin:/opt/x", "PATH=<path>"),
        ("error:/mnt/x", "error:<path>"),
        ("base 25/50, 24/1.001 fps, and/or", "base 25/50, 24/1.001 fps, and/or"),
        ("see https://example.com/a/b", "see https://example.com/a/b"),
        ("HTTP/1.1 200 a / b", "HTTP/1.1 200 a / b"),
    ],
)
def test_paths_are_taken_out_to_their_end(home: Path, text: str, left: str):
    assert Redactor(Secrets()).clean(text) == left


@pytest.mark.parametrize(
    "text, left",
    [
        ("in {}/Anna's Film/b.mov it is", "in <home>/<path>"),
        ("in '{}/My Film/b.mov' it is", "in '<home>/<path>' it is"),
        ("{}/My Film/b.mov cannot be read: no space", "<home>/<path> cannot be read: no space"),
        ("{} is full", "<home> is full"),
        ("{}-backup/My Film is full", "<path>"),
    ],
)
def test_of_a_known_place_the_name_is_left(home: Path, text: str, left: str):
    assert Redactor(Secrets()).clean(text.format(Path.home())) == left


def test_much_text_and_many_names_take_seconds_not_minutes(home: Path):
    names = tuple(f"SHOT_{number:04}_take{number % 9}" for number in range(3_000))
    prompts = tuple(f"koi number {number} swims home to pond {number}" for number in range(3_000))
    redactor = Redactor(Secrets(prompts, names))
    text = "2026-11-21 10:00:00 INFO freeswim job 12 attempt 1 on gpu SHOT_0007_take7\n" * 12_000
    begin = time.process_time()
    left = redactor.clean(text)
    assert time.process_time() - begin < 15
    assert "SHOT" not in left


# ------------------------------------------------------------------------------------ the window


@pytest.fixture
def window(offline: Studio, private: Path, qtbot: QtBot) -> ReportWindow:
    window = ReportWindow(offline, lambda: {"": "unsent words too"})
    qtbot.addWidget(window)
    return window


def test_the_window_makes_a_report_without_a_studio_and_shows_where(
    window: ReportWindow,
    offline: Studio,
    private: Path,
    home: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
):
    offline.jobs["0123456789abcdef"] = a_job(private)
    offline.shots[A_SHOT.id], offline.takes[A_TAKE.id] = A_SHOT, A_TAKE
    window.open_anew()
    qtbot.keyClicks(window.what_happened, "It stopped.")
    window.make.click()
    assert not window.make.isEnabled()
    qtbot.waitUntil(lambda: window.path is not None, timeout=60_000)
    assert window.path is not None and window.path.parent == home / "app"
    assert str(window.path) in window.where.text() and window.where.text().endswith(" KB")
    found = members(window.path)
    assert found["what happened.txt"] == "It stopped."
    assert json.loads(found["system.json"])["machine"] == {
        "studio": "studio: The studio is not there yet."
    }
    for text in found.values():
        for leak in [*leaks(private, home), "unsent words"]:
            assert leak.lower() not in text.lower()
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    window.show_in_folder.click()
    assert [Path(url.toLocalFile()) for url in opened] == [home / "app"]
    window.copy_path.click()
    assert QGuiApplication.clipboard().text() == str(window.path)


def test_what_is_left_out_is_said_and_follows_the_tick(window: ReportWindow):
    assert "Prompts, names of shots and files" in window.contents.text()
    window.with_words.setChecked(True)
    assert "Prompts" not in window.contents.text()
    assert "Nothing is sent" in window.contents.text()


def test_ticked_the_prompt_is_in(
    window: ReportWindow, offline: Studio, private: Path, qtbot: QtBot
):
    offline.jobs["0123456789abcdef"] = a_job(private)
    window.with_words.setChecked(True)
    window.make.click()
    qtbot.waitUntil(lambda: window.path is not None, timeout=60_000)
    assert window.path is not None
    assert json.loads(members(window.path)["last job.json"])["prompt"] == PROMPT


def test_where_no_place_takes_it_the_window_says_why(
    window: ReportWindow, home: Path, qtbot: QtBot
):
    (home / "app").write_text("in the way")
    window.make.click()
    qtbot.waitUntil(lambda: not window.failure.isHidden(), timeout=60_000)
    assert "cannot be written" in window.failure.text() and window.make.isEnabled()


def test_a_real_studio_tells_of_its_machine_and_the_job(studio: Studio, qtbot: QtBot):
    def submitted() -> Any:
        studio.order(
            lambda client: client.submit({"preset": "demo", "request": {"prompt": "one red koi"}})
        )
        return studio.changed

    with qtbot.waitSignal(submitted(), timeout=60_000):
        pass
    qtbot.waitUntil(
        lambda: any(job.started_at is not None for job in studio.jobs.values()), timeout=120_000
    )
    window = ReportWindow(studio)
    qtbot.addWidget(window)
    window.make.click()
    qtbot.waitUntil(lambda: window.path is not None, timeout=120_000)
    assert window.path is not None
    found = members(window.path)
    assert json.loads(found["system.json"])["machine"]["slots"]
    assert json.loads(found["last job.json"])["request"]["checkpoint"] == "demo"
    assert "studio.log" in found and "serving <data> on port" in found["studio.log"]
    token = discovery.find()
    assert token is not None
    for text in found.values():
        assert "red koi" not in text and token.token not in text
        assert str(paths.home()) not in text and str(Path.home()) not in text
        assert not re.search(rf"\b{getpass.getuser()}\b", text)
    assert isinstance(studio._client, Client)


# ---------------------------------------------------------------------------- logs and crashes


def run_app(code: str) -> subprocess.CompletedProcess[str]:
    """An app with Trouble in a process of its own; `app` and `seen` are there for `code`."""
    begin = (
        "import sys, threading, logging, faulthandler\n"
        "from PySide6.QtCore import QCoreApplication, QTimer, qWarning\n"
        "from desktop.trouble import Trouble\n"
        "app, trouble, seen = QCoreApplication([]), Trouble(), []\n"
        "trouble.happened.connect(seen.append)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=60
    )


def app_log() -> str:
    return (paths.logs() / "app.log").read_text("utf-8")


def test_what_nobody_caught_is_logged_told_once_and_the_app_goes_on(home: Path):
    done = run_app(
        "def fails(): raise ValueError('café')\n"
        "for _ in range(50): QTimer.singleShot(0, fails)\n"
        "def in_thread(): {}['missing']\n"
        "QTimer.singleShot(10, lambda: threading.Thread(target=in_thread).start())\n"
        "QTimer.singleShot(20, lambda: qWarning('from Qt'))\n"
        "QTimer.singleShot(300, app.quit)\n"
        "app.exec()\n"
        "print(seen)\n"
        "trouble.close()\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = ["ValueError in <string>:6", "KeyError in <string>:8"]
    assert done.stdout.strip() == str(told)
    log = app_log()
    assert log.count("ValueError: café") == trouble.MOST_ALIKE
    assert "KeyError: 'missing'" in log and "from Qt" in log
    assert "freeswim " in log.splitlines()[0]


def test_a_crash_is_found_at_the_next_start_and_only_then(home: Path):
    assert run_app("print(trouble.has_crashed); trouble.close()").stdout == "False\n"
    crashed = run_app("faulthandler._sigsegv()")
    assert crashed.returncode != 0
    assert "Fatal Python error" in (paths.logs() / "crash.log").read_text()
    assert run_app("print(trouble.has_crashed); trouble.close()").stdout == "True\n"
    assert "Fatal Python error" in (paths.logs() / "crash-before.log").read_text()
    assert run_app("print(trouble.has_crashed); trouble.close()").stdout == "False\n"
    assert "Fatal Python error" in members(write_report(home, Facts()))["crash-before.log"]


def test_an_end_that_was_asked_for_is_an_end(home: Path):
    done = run_app("raise KeyboardInterrupt")
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr
    assert "nobody caught" not in app_log()


def test_the_log_is_turned_over_and_four_are_kept(home: Path):
    done = run_app(
        "log = logging.getLogger('x')\n"
        "for _ in range(7): log.info('y' * 9 * 2**20)\n"
        "trouble.close()"
    )
    assert done.returncode == 0
    names = sorted(path.name for path in paths.logs().glob("app.log*"))
    assert names == ["app.log", *(f"app.log.{number}" for number in range(1, 5))]
    assert all((paths.logs() / name).stat().st_size <= 10 * 2**20 for name in names)


def test_without_a_place_for_logs_the_app_starts_all_the_same(home: Path):
    home.mkdir()
    (home / "logs").write_text("in the way")
    done = run_app(
        "print(trouble.problem)\n"
        "QTimer.singleShot(0, lambda: 1 / 0)\n"
        "QTimer.singleShot(50, app.quit)\n"
        "app.exec()\nprint(seen)\ntrouble.close()\n"
    )
    assert "There is no log." in done.stdout
    assert "ZeroDivisionError in <string>:7" in done.stdout


def test_closed_it_leaves_the_hooks_of_others_alone(home: Path):
    done = run_app(
        "ours = sys.excepthook\ntrouble.close()\n"
        "print(sys.excepthook is sys.__excepthook__, ours is not sys.excepthook,"
        " len(logging.getLogger().handlers), faulthandler.is_enabled())"
    )
    assert done.stdout == "True True 0 False\n"
