from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtNetwork import QLocalSocket
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from desktop import instance
from desktop.instance import Instance, first_or_hand_over
from freeswim.errors import StudioError

# A start: says "first", then the files it is called with; or ends at once.
START = """
import sys
from pathlib import Path
from PySide6.QtCore import QCoreApplication
from desktop.instance import first_or_hand_over
app = QCoreApplication([])
first = first_or_hand_over(Path(sys.argv[1]), sys.argv[2:])
if first is None:
    sys.exit(3)
first.called.connect(lambda files: print(*files, flush=True))
print("first", flush=True)
app.exec()
"""


def start(folder: Path, *files: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", START, str(folder), *files],
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def folder(tmp_path: Path, qapp: QApplication) -> Path:
    return tmp_path / "app"


@pytest.fixture
def first(folder: Path) -> Iterator[Instance]:
    first = first_or_hand_over(folder)
    assert first is not None
    yield first
    first.close()


def test_a_second_start_hands_its_files_over_and_ends(
    first: Instance, folder: Path, tmp_path: Path, qtbot: QtBot
):
    files = ["clip one.mov", str(tmp_path / "zwölf\n.mp4"), "--x"]
    with qtbot.waitSignal(first.called) as told, start(folder, *files, cwd=tmp_path) as second:
        qtbot.waitUntil(lambda: second.poll() is not None, timeout=60_000)
        assert second.returncode == 3
    assert told.args == [[tmp_path / "clip one.mov", tmp_path / "zwölf\n.mp4", tmp_path / "--x"]]


def test_a_second_start_without_files_is_told_too(first: Instance, folder: Path, qtbot: QtBot):
    with qtbot.waitSignal(first.called, timeout=60_000) as told, start(folder) as second:
        qtbot.waitUntil(lambda: second.poll() is not None, timeout=60_000)
    assert told.args == [[]]


def test_another_data_folder_has_an_app_of_its_own(first: Instance, tmp_path: Path):
    other = first_or_hand_over(tmp_path / "other")
    assert other is not None
    other.close()


def test_after_an_orderly_end_the_next_start_is_first(folder: Path):
    for _ in range(3):
        one = first_or_hand_over(folder)
        assert one is not None
        one.close()
    assert not (folder / "app.socket").exists()


def test_the_lock_of_one_that_was_killed_is_taken_over(folder: Path):
    with start(folder) as killed:
        assert line_of(killed) == "first"
        killed.kill()
    assert (folder / "app.lock").exists() and (folder / "app.socket").exists()
    with start(folder) as next_one:
        assert line_of(next_one) == "first"
        with start(folder, "/some/file") as third:
            assert third.wait(20) == 3
        assert line_of(next_one) == str(Path("/some/file").absolute())
        next_one.kill()


def test_of_many_that_start_at_once_one_is_first_and_hears_the_others(folder: Path):
    starts = [start(folder, f"/files/{number}") for number in range(6)]
    try:
        ends = dict.fromkeys(starts, None)
        firsts = []
        deadline = time.monotonic() + 40
        while len(ends) > 1:
            assert time.monotonic() < deadline
            for one in [one for one in ends if one.poll() is not None]:
                assert one.returncode == 3
                del ends[one]
            time.sleep(0.02)
        [winner] = ends
        firsts = [line_of(winner) for _ in starts]
        own = starts.index(winner)
        expected = {f"/files/{number}" for number in range(6) if number != own}
        assert firsts[0] == "first" and set(firsts[1:]) == expected
    finally:
        for one in starts:
            one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()


def test_one_that_holds_the_lock_and_does_not_answer_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(instance, "PATIENCE_S", 0.3)
    one = first_or_hand_over(folder)
    assert one is not None
    one._server.close()
    with pytest.raises(StudioError) as raised:
        first_or_hand_over(folder)
    assert raised.value.message.endswith(f"does not answer (process {os.getpid()}).")
    assert raised.value.hint.startswith("End it")
    one.close()


@pytest.mark.parametrize("way", ["file", "folder"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, way: str):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "app" if way == "file" else Path("/proc/none")
    with pytest.raises(StudioError, match="cannot be written"):
        first_or_hand_over(folder)


# ------------------------------------------------------------------------------ what is no start


def socket_to(folder: Path) -> QLocalSocket:
    socket = QLocalSocket()
    socket.connectToServer(instance._socket_name(folder))
    assert socket.waitForConnected(2_000)
    return socket


def is_closed(socket: QLocalSocket) -> bool:
    return socket.state() == QLocalSocket.LocalSocketState.UnconnectedState


@pytest.mark.parametrize(
    "words",
    [
        b"\n",
        b"\x00\xff\xfe\x80" * 100 + b"\n",
        b"GET / HTTP/1.1\r\n",
        b"null\n",
        b'{"files": "/etc/passwd"}\n',
        b'{"files": [1]}\n',
        b'{"files": ["relative"]}\n',
        b'{"files": ["/nul\\u0000"]}\n',
        b'{"files": {}}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (instance.MOST_BYTES + 10),
    ],
    ids=range(11),
)
def test_what_is_not_understood_is_dropped(
    first: Instance, folder: Path, qtbot: QtBot, words: bytes
):
    socket = socket_to(folder)
    with qtbot.assertNotEmitted(first.called):
        socket.write(words)
        qtbot.waitUntil(lambda: is_closed(socket))
    with qtbot.waitSignal(first.called, timeout=60_000), start(folder) as second:
        qtbot.waitUntil(lambda: second.poll() is not None, timeout=60_000)
        assert second.returncode == 3


def test_words_that_come_in_pieces_are_heard(first: Instance, folder: Path, qtbot: QtBot):
    socket = socket_to(folder)
    with qtbot.waitSignal(first.called) as told:
        for byte in b'{"files": ["/a b"]}\n':
            socket.write(bytes([byte]))
            socket.flush()
            QApplication.processEvents()
    assert told.args == [[Path("/a b")]]
    qtbot.waitUntil(lambda: bytes(socket.readAll().data()) == b"taken\n" or is_closed(socket))


def test_who_says_nothing_is_dropped_and_a_crowd_turned_away(
    folder: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(instance, "SILENCE_MS", 300)
    first = first_or_hand_over(folder)
    assert first is not None
    crowd = []
    for _ in range(3 * instance.MOST_CALLERS):
        socket = QLocalSocket()
        socket.connectToServer(instance._socket_name(folder))
        crowd.append(socket)
        QApplication.processEvents()
    assert len(first._heard) <= instance.MOST_CALLERS
    qtbot.waitUntil(lambda: all(is_closed(socket) for socket in crowd))
    assert not first._heard
    first.close()


def test_the_socket_is_this_users_alone(first: Instance, folder: Path):
    assert (folder / "app.socket").stat().st_mode & 0o077 == 0


def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path, qtbot: QtBot):
    folder = tmp_path / ("long" * 40)
    first = first_or_hand_over(folder)
    assert first is not None
    assert not (folder / "app.socket").exists()
    with qtbot.waitSignal(first.called, timeout=60_000), start(folder) as second:
        qtbot.waitUntil(lambda: second.poll() is not None, timeout=60_000)
        assert second.returncode == 3
    first.close()


def test_files_wait_for_a_window_that_is_busy(first: Instance, folder: Path, qtbot: QtBot):
    """The first is heard from its loop: a second waits for it rather than open a window too."""
    with start(folder, "/file") as second:
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(1)
        with qtbot.waitSignal(first.called, timeout=60_000):
            pass
        qtbot.waitUntil(lambda: second.poll() is not None, timeout=60_000)
        assert second.returncode == 3
