"""Words of clients that would be paths, ids and ranges: where they lead, and that it is nowhere."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from speaker import ROUTES, SOME_ID, Headers, Place, Speaker, refused

JOBS = "/v1/jobs"


def corpus() -> list[str]:
    """Names that have led programs out of their folders, on any system."""
    ups = [
        "..",
        "../..",
        "../../../../../../..",
        "./..",
        "a/../..",
        "..;",
        ".. ",
        "...",
        "....//",
        "\u2025",
    ]
    ends = ["", "/", "canary", "outside/canary.txt", "etc/passwd", "studio.db", "windows/win.ini"]
    names = [f"{up}/{end}" for up, end in itertools.product(ups, ends)]
    names += [name.replace("/", "\\") for name in names]
    names += [name.replace("/", "%2f").replace(".", "%2e") for name in names[:30]]
    names += [name.replace("/", "%252f") for name in names[:10]]
    names += [
        "/",
        "/canary",
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/environ",
        "~",
        "~/x",
        "~root",
    ]
    names += ["C:x", "C:\\x", "C:/x", "c:", "\\\\srv\\share\\x", "//srv/share/x", "\\\\?\\C:\\x"]
    names += [
        "\\\\.\\pipe\\x",
        "\\\\?\\UNC\\srv\\x",
        "file:///etc/passwd",
        "file://srv/x",
        "http://x/y",
    ]
    devices = ["CON", "PRN", "AUX", "NUL", "COM1", "COM¹", "LPT9", "CONIN$", "CLOCK$", "LPT1"]
    suffixes = ["", ".txt", ".mp4", " ", ".", ":x", ".tar.gz"]
    names += [f"{name}{suffix}" for name, suffix in itertools.product(devices, suffixes)]
    names += [name.lower() for name in devices]
    names += [
        "a.",
        "a ",
        "a. .",
        " a",
        ".a",
        ".",
        "..",
        "...",
        " ",
        "",
        "a:b",
        "a::$DATA",
        "a:b:$DATA",
    ]
    names += [
        "-rf",
        "--help",
        "-",
        "-i/etc/passwd",
        "@file",
        "|id",
        ";id",
        "$(id)",
        "`id`",
        "${HOME}",
    ]
    names += [
        "%TEMP%",
        "%s%n",
        "{0}",
        "{take}",
        "*",
        "?",
        "a*b?",
        "<b>",
        '"',
        "'",
        "a'b",
        "a|b",
        "a&b",
    ]
    names += [f"a{chr(code)}b" for code in [*range(33), 127, 128, 133, 0xA0]]
    names += ["caf\u00e9", "cafe\u0301", "\u202egnp.exe", "a\u200bb", "\u2066x\u2069", "\ufeffx"]
    names += [
        "\uff0e\uff0e\uff0fx",
        "\u2024\u2024\u2215x",
        "\u2025/x",
        "\u29f5x",
        "\uff3cx",
        "\u0130",
    ]
    names += [
        "\u0000",
        "x\u0000.mp4",
        "x\r\nSet-Cookie: a=b",
        "\x1b]0;x\x07",
        "\x1b[2J",
        "\ud7ff\ue000",
    ]
    names += ["x" * length for length in (60, 61, 100, 101, 255, 256, 300, 4096, 100_000)]
    names += [
        "\u00e9" * 100,
        "\U0001f41f" * 100,
        "." * 100,
        "-" * 100,
        "/" * 100,
        "\\" * 100,
        "../" * 33,
    ]
    names += [
        "studio.db",
        "studio.lock",
        "run/studio.json",
        "spec.json",
        "take.mp4",
        ".part",
        ".x.part",
    ]
    names += [
        "x_take01",
        "x_take01.mp4",
        "x_take01.json",
        "x.latents.safetensors",
        "shot",
        "Shot",
        "SHOT",
    ]
    names += [
        "PROGRA~1",
        "desktop.ini",
        "Thumbs.db",
        ".DS_Store",
        "$MFT",
        ".git/config",
        "a/b",
        "a\\b",
    ]
    return list(dict.fromkeys(names))


CORPUS = corpus()


def snapshot(*folders: Path) -> dict[str, Any]:
    """All that is in folders, and whether any of it was opened: see `sealed`."""
    found: dict[str, Any] = {}
    for folder in folders:
        for path in [folder, *sorted(folder.rglob("*"))]:
            status = path.lstat()
            times = (status.st_mtime_ns, status.st_ctime_ns)
            read = status.st_atime_ns if path.is_file() and not path.is_symlink() else 0
            found[str(path)] = (status.st_mode, status.st_size, status.st_ino, *times, read)
    return found


def sealed(path: Path) -> Path:
    """A file on which it shows when it is read: by the rule of `relatime` that is its first time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("canary")
    os.utime(path, (1, path.stat().st_mtime))
    return path


@pytest.fixture(autouse=True)
def _nothing_outside(place: Place, studio: Speaker) -> Iterator[None]:
    """Outside of its two folders the studio creates, changes, reads and deletes nothing.

    In them, links lead out; and a name that climbs up finds canaries on its way.
    """
    outside = [place.root / "outside", place.cwd, place.root / "up", place.root.parent / "up"]
    for folder in outside:
        for name in ("canary", "canary.txt", "worker.log", "preview.jpg"):
            sealed(folder / name)
    sealed(place.root / "canary")
    links = {
        place.home / "jobs" / SOME_ID: outside[0],
        place.takes / "link.mp4": place.root / "canary",
    }
    for link, target in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target)
    watched = [*outside, place.root / "canary"]
    before, names = snapshot(*watched), sorted(path.name for path in place.root.iterdir())
    yield
    assert snapshot(*watched) == before
    assert sorted(path.name for path in place.root.iterdir()) == names
    assert all(link.is_symlink() for link in links)


def test_what_is_read_outside_would_be_seen(tmp_path: Path):
    before = snapshot(sealed(tmp_path / "canary"))
    (tmp_path / "canary").read_bytes()
    if snapshot(tmp_path / "canary") == before:
        pytest.skip("this disk does not tell when files are read; writing still shows")


def ended(studio: Speaker) -> list[dict[str, Any]]:
    """All jobs, when none is left that will run."""
    deadline = time.monotonic() + 120
    while True:
        counts = studio.get("/v1/queue")["counts"]
        if not counts["queued"] + counts["running"] + counts["publishing"]:
            return studio.get(f"{JOBS}?view=history&limit=500")["jobs"]
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)


def is_shown(name: str) -> bool:
    """Whether a shot can have the name."""
    return name.isprintable() and bool(name.strip()) and len(name) <= 100


def test_a_shot_of_any_name_stays_in_its_folders(studio: Speaker, place: Place):
    """All are queued under their names; those that are most of a path are made as well."""
    assert len(CORPUS) >= 400
    crooked = [name for name in CORPUS if is_shown(name) and re.search(r"[^A-Za-z0-9]", name)]
    chosen = {*crooked[::6], "CON", "NUL.txt", "-rf", "a.", "../../canary"}
    studio.post("/v1/queue", {"mode": "stop_after"}, method="PATCH")
    for is_made in (False, True):
        for name in CORPUS:
            if (name in chosen) == is_made:
                shot = {"name": name}
                body = {"preset": "demo", "request": {"prompt": "koi", "seed": 1}, "shot": shot}
                answer = studio.post(JOBS, body)
                assert answer.status in ((201,) if is_shown(name) else (400, 422)), (name, answer)
                if answer.status == 201:
                    assert answer.json["jobs"][0]["shot_name"] == name
        if not is_made:
            assert studio.post(f"{JOBS}/cancel").json["count"] > 200
    studio.post("/v1/queue", {"mode": "run"}, method="PATCH")
    jobs = [job for job in ended(studio) if job["shot_name"] in chosen]
    assert len(jobs) >= 30 and {job["state"] for job in jobs} == {"done"}
    for path in place.takes.iterdir():
        assert re.fullmatch(
            r"[A-Za-z0-9_][A-Za-z0-9_-]*_take\d\d(-\d+)?\.(mp4|json)|link\.mp4", path.name
        )
        assert not re.match(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)", path.name)
    for path in (place.home / "jobs").iterdir():
        assert re.fullmatch("[0-9a-f]{16}", path.name)
    top = {path.name for path in place.home.iterdir()}
    known = {"backups", "history.jsonl", "jobs", "logs", "run", "studio.db", "studio.lock"}
    assert top - known <= {name for name in top if name.startswith(("studio.", "."))}, top


def test_words_in_every_other_field_lead_nowhere(studio: Speaker):
    """Each is refused, or is no more than words."""
    studio.post("/v1/queue", {"mode": "stop_after"}, method="PATCH")
    for name in CORPUS[::5]:
        for body in (
            {"preset": name, "request": {"prompt": "koi"}},
            {"preset": "demo", "request": {"prompt": name}},
            {"preset": "demo", "request": {"prompt": "koi", "checkpoint": name}},
            {"preset": "demo", "request": {"prompt": "koi"}, "key": name},
            {"preset": "demo", "request": {"prompt": "koi"}, "shot_id": name},
            {"preset": "demo", "request": {"prompt": "koi", name: name}},
        ):
            answer = studio.ask("POST", JOBS, body=json.dumps(body).encode())
            assert answer.status in (200, 201, 400, 404, 409, 422), (body, answer)
    for name in CORPUS[::10]:
        body = {
            "preset": "demo",
            "request": {"prompt": "koi"},
            "shot": {"name": "x", "placement": {name: name}},
        }
        answer = studio.ask("POST", JOBS, body=json.dumps(body).encode())
        assert answer.status in (201, 400)
    studio.post(f"{JOBS}/cancel")
    studio.post("/v1/queue", {"mode": "run"}, method="PATCH")


def test_a_file_of_another_machine_is_not_opened(studio: Speaker):
    """A path is the person's own and whole; on Windows a foreign one would show their password."""
    for path in (
        "canary",
        "../canary",
        "./canary",
        "~/canary",
        "\\\\srv\\x",
        "//srv/x",
        "C:x",
        "file:///x",
        "",
    ):
        for field in ("clip", "first_image", "last_image"):
            for route in ("/v1/plan", JOBS):
                body = {"preset": "demo", "request": {"prompt": "koi", field: {"path": path}}}
                refused([studio.post(route, body)], 422)
        lora = {"preset": "demo", "request": {"prompt": "koi", "loras": [{"file": {"path": path}}]}}
        refused([studio.post(JOBS, lora)], 422)


BAD_IDS = [
    *(
        "0",
        "0" * 15,
        "0" * 17,
        "g" * 16,
        "0123456789ABCDEF",
        "0123456789abcde\n",
        "0123456789abcde%0a",
    ),
    *("..", "%2e%2e", "....", "..%2f..%2fstudio.db", "%00" * 16, "0123456789abcde%00", "%ff" * 16),
    *(
        f"{SOME_ID}%0a",
        f"{SOME_ID}%00",
        f"%20{SOME_ID}",
        f"{SOME_ID}.mp4",
        f"{SOME_ID}%2f..",
        "-1",
        "1e9",
    ),
    *("%d9%a0" * 16, "%ef%bc%90" * 16, "null", "undefined", "*", "' OR 1=1 --", "x" * 3000),
]


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if "{" in route.template],
    ids=lambda route: f"{route.method} {route.template}",
)
def test_an_id_is_sixteen_hex_digits_of_something_that_is_there(studio: Speaker, route: Any):
    body = {"PATCH": b'{"verdict": "new"}' if "takes" in route.path else b'{"request": {}}'}
    sent = body.get(route.method, b"{}" if route.method == "POST" else b"")
    refused([studio.ask(route.method, route.path, body=sent)], 404)
    if "{name}" not in route.template:
        for bad in (SOME_ID.upper(), SOME_ID[1:], f"{SOME_ID}0", "g" * 16, "%d9%a0" * 16):
            target = route.path.replace(SOME_ID, bad)
            refused([studio.ask(route.method, target, body=sent)], 422)
    for bad in BAD_IDS:
        target = route.path.replace(SOME_ID, bad.replace("\n", "").replace(" ", "+"))
        refused([studio.ask(route.method, target, body=sent)], 404, 405, 422)


def test_queries_are_what_they_are_said_to_be(studio: Speaker):
    for query in (
        *(
            "limit=0",
            "limit=501",
            "limit=-1",
            "limit=1e2",
            "limit=٣",
            "limit=" + "9" * 400,
            "limit=",
        ),
        *(
            "view=all",
            "before=-1",
            "before=" + "9" * 30,
            "after=x",
            "after=" + "0" * 17,
            "search=" + "a" * 201,
        ),
    ):
        query = query.encode().decode("latin-1") if query.isascii() else "limit=%D9%A3"
        refused([studio.ask("GET", f"{JOBS}?{query}")], 422)
    for query in (
        "after=-1",
        "after=9007199254740993",
        "after=x",
        "wait=-1",
        "wait=26",
        "wait=nan",
        "wait=inf",
    ):
        refused([studio.ask("GET", f"/v1/changes?{query}")], 422)
    for query in (
        "shot=..",
        f"shot={SOME_ID}x",
        "verdict=x",
        "limit=0",
        "search=" + "%F0%9F%90%9F" * 201,
    ):
        refused([studio.ask("GET", f"/v1/takes?{query}")], 422)
    for query in (
        "",
        "nonce=",
        "nonce=short",
        "nonce=" + "a" * 129,
        "nonce=" + "%00" * 20,
        "nonce=" + "..%2f" * 8,
    ):
        refused([studio.ask("GET", f"/v1/hello?{query}")], 422)
    for search in (
        "%00",
        "%",
        "_",
        "%25",
        "\\",
        "'",
        '"',
        "%ff%fe",
        "%ed%a0%80",
        "a" * 200,
        "%5c%25",
        "(",
        "* NEAR",
    ):
        assert (
            studio.ask("GET", f"{JOBS}?view=history&search={search.replace(' ', '+')}").status
            == 200
        )
        assert studio.ask("GET", f"/v1/takes?search={search.replace(' ', '+')}").status == 200


@pytest.mark.parametrize(
    "last", ["9" * 20, "0" * 20, "-1", "\xb2", "1e3", "0x1", " ", "1, 2", "NaN"]
)
def test_a_stream_after_any_event_begins_with_what_is_there(studio: Speaker, last: str):
    """A number that no event had is that of another database: all is told."""
    request = f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{studio.port}\r\n"
    request += f"Authorization: Bearer {studio.token}\r\nLast-Event-ID: {last}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", studio.port), timeout=120) as connection:
        connection.sendall(request.encode("latin-1"))
        said = b""
        while b"event: changes\nid: " not in said:
            piece = connection.recv(1 << 16)
            assert piece, said
            said += piece
    assert said.startswith(b"HTTP/1.1 200 ") and b"Traceback" not in said
    refused([studio.ask("GET", "/v1/events", [("Last-Event-ID", "1" * 21)])], 422)


# --------------------------------------------------------------------------------------- ranges


@pytest.fixture(scope="module")
def take(studio: Speaker) -> tuple[str, bytes]:
    """(target, bytes) of the video file of a take."""
    body = {"preset": "demo", "request": {"prompt": "koi", "seed": 1}, "shot": {"name": "ranges"}}
    assert studio.post(JOBS, body).status == 201
    ended(studio)
    made = next(take for take in studio.get("/v1/takes")["takes"] if take["shot_name"] == "ranges")
    path = Path(studio.get(f"/v1/takes/{made['id']}")["path"])
    return f"/v1/takes/{made['id']}/media", path.read_bytes()


def test_a_take_is_given_whole_or_one_range_of_it(studio: Speaker, take: tuple[str, bytes]):
    target, content = take
    size = len(content)
    whole = studio.ask("GET", target)
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"].startswith("attachment; ")
    ranges = [("0-0", 0, 1), ("0-", 0, size), ("5-9", 5, 10), (f"{size - 1}-", size - 1, size)]
    ranges += [("-1", size - 1, size), ("-7", size - 7, size), (f"-{size}", 0, size)]
    ranges += [(f"-{size + 100}", 0, size), ("0-999999999999999", 0, size), (f"0-{size}", 0, size)]
    for asked, start, end in ranges:
        answer = studio.ask("GET", target, [("Range", f"bytes={asked}")])
        assert (answer.status, answer.body) == (206, content[start:end]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"


def test_what_is_no_range_of_it_is_refused(studio: Speaker, take: tuple[str, bytes]):
    target, content = take
    size = len(content)
    for asked in (
        *(
            f"bytes={size}-",
            f"bytes={size}-{size + 1}",
            "bytes=-0",
            "bytes=5-4",
            "bytes=-",
            "bytes=",
        ),
        *("bytes=0-1,3-4", "bytes=0-0,-1", "bytes=0-,0-,0-", "bytes=0-1, 2-3", "bytes=,0-1"),
        *(
            "bytes=a-b",
            "bytes=0x0-1",
            "bytes=1.5-2",
            "bytes=--1",
            "bytes=-1-",
            "bytes=0-1-2",
            "bytes=+1-2",
        ),
        *(
            "bytes",
            "0-1",
            "lines=0-1",
            "BYTES=0-1",
            "bytes =0-1",
            "bytes= 0-1",
            "bytes=0 -1",
            "bytes:0-1",
        ),
        *(
            "bytes=" + "9" * 400 + "-",
            "bytes=-" + "9" * 400,
            "bytes=\xb2-\xb3",
            "bytes=0-1;",
            "bytes=0-1\\",
        ),
    ):
        answer = studio.ask("GET", target, [("Range", asked)])
        refused([answer], 416)
        assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_range_of_ten_thousand_parts_costs_nothing(studio: Speaker, take: tuple[str, bytes]):
    bombs = (
        "bytes=" + "0-1," * 3000 + "0-1",
        "bytes=" + "-," * 5000,
        "bytes=" + "0" * 14_000 + "-1",
    )
    for bomb in bombs:
        began = time.monotonic()
        refused([studio.ask("GET", take[0], [("Range", bomb)])], 416, 422)
        assert time.monotonic() - began < 30
    for bomb in ("bytes=" + "0-1," * 12_500, "bytes=" + "0-1," * 100_000):
        refused([studio.ask("GET", take[0], [("Range", bomb)])], 0, 400, 416, 422)


def test_two_ranges_are_not_two_answers(studio: Speaker, take: tuple[str, bytes]):
    headers: Headers = [("Range", "bytes=0-1"), ("Range", "bytes=3-4")]
    answer = studio.ask("GET", take[0], headers)
    assert answer.status == 416 or (answer.status == 206 and len(answer.body) == 2)


@pytest.mark.parametrize("what", ["nothing", "a link out", "a link in", "a folder", "a pipe"])
def test_a_take_that_became_something_else_is_gone(
    studio: Speaker, place: Place, take: tuple[str, bytes], what: str
):
    """A link is not followed, a pipe not waited for, a folder not read."""
    target, content = take
    path = Path(studio.get(target.removesuffix("/media"))["path"])
    aside = path.rename(path.with_suffix(".aside"))
    try:
        replace(path, what, place.root / "outside" / "canary.txt", aside)
        refused([studio.ask("GET", target)], 404)
        refused([studio.ask("GET", target, [("Range", "bytes=0-0")])], 404)
    finally:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        aside.rename(path)
    assert studio.ask("GET", target).body == content


DAMAGED = {  # sidecars
    "no text": b"\xff{",
    "no number": b'{"schema": 1, "request": {}, "x": NaN}',
    "no character": b'{"schema": 1, "request": {}, "x": "\\ud800"}',
    "deep": b'{"schema": 1, "request": {}, "x": ' + b"[" * 500 + b"]" * 500 + b"}",
    "deeper": b'{"schema": 1, "request": {}, "x": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("what", ["nothing", "a link out", "a folder", "a pipe", *DAMAGED])
def test_a_sidecar_that_became_something_else_breaks_nothing(
    studio: Speaker, place: Place, take: tuple[str, bytes], what: str
):
    target = take[0].removesuffix("/media")
    path = Path(studio.get(target)["path"]).with_suffix(".json")
    aside = path.rename(path.with_suffix(".aside"))
    try:
        replace(path, what, place.root / "outside" / "canary.txt", aside)
        refused([studio.ask("GET", target)], 404, 422)
    finally:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        aside.rename(path)
    assert studio.get(target)["sidecar"]["schema"] == 1


@pytest.mark.parametrize("what", ["nothing", "a link out", "a folder", "a pipe"])
@pytest.mark.parametrize(
    ("name", "file"),
    [("log", "worker.log"), ("preview.jpg", "preview.jpg")],
    ids=["log", "preview"],
)
def test_a_file_of_a_job_that_became_something_else_is_not_there(
    studio: Speaker, place: Place, take: tuple[str, bytes], name: str, file: str, what: str
):
    job_id = studio.get(take[0].removesuffix("/media"))["take"]["job_id"]
    path = place.home / "jobs" / job_id / file
    path.unlink(missing_ok=True)
    try:
        replace(path, what, place.root / "outside" / "canary.txt", path)
        answer = studio.ask("GET", f"{JOBS}/{job_id}/{name}")
        assert answer.status == 404 if name != "log" else answer.json == {"text": ""}
    finally:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def test_the_folder_of_a_job_that_became_a_link_is_not_read(
    studio: Speaker, place: Place, take: tuple[str, bytes]
):
    job_id = studio.get(take[0].removesuffix("/media"))["take"]["job_id"]
    path = place.home / "jobs" / job_id
    aside = path.rename(place.home / "jobs" / "aside")
    try:
        path.symlink_to(place.root / "outside")
        assert studio.get(f"{JOBS}/{job_id}/log") == {"text": ""}
        refused([studio.ask("GET", f"{JOBS}/{job_id}/preview.jpg")], 404)
    finally:
        path.unlink()
        aside.rename(path)


def replace(path: Path, what: str, outside: Path, inside: Path) -> None:
    """Put something else in a file's place."""
    match what:
        case "a link out":
            path.symlink_to(outside)
        case "a link in":
            path.symlink_to(inside)
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "nothing":
            pass
        case _:
            path.write_bytes(DAMAGED[what])
