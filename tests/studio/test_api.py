"""What each route of the API does for a client who asks as it should."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from freeswim import __version__
from freeswim.studio import client, discovery
from freeswim.studio.client import Client

NOBODY = "0123456789abcdef"


@pytest.fixture
def studio(served: Path) -> Client:
    found = client.connect()
    assert found is not None
    return found


@pytest.fixture
def halted(studio: Client) -> Iterator[Client]:
    """A studio that begins nothing, and has nothing to do."""
    studio.post("/jobs/cancel")
    studio.patch("/queue", {"mode": "stop_after"})
    until(studio, lambda queue: not queue["running"])
    studio.post("/jobs/clear")
    yield studio
    studio.post("/jobs/cancel")
    studio.patch("/queue", {"mode": "run"})


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """The bare reply."""
    found = discovery.find()
    assert found is not None
    connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=120)
    sent = {"Authorization": f"Bearer {found.token}", **headers}
    content = None
    if body is not None:
        content, sent["Content-Type"] = json.dumps(body), "application/json"
    connection.request(method, f"/v1{path}", body=content, headers=sent)
    response = connection.getresponse()
    said = {name.lower(): value for name, value in response.getheaders()}
    reply = Reply(response.status, said, response.read())
    connection.close()
    return reply


def until(studio: Client, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until something holds of the queue."""
    deadline = time.monotonic() + 120
    while not holds(studio.get("/queue")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def added(studio: Client, prompt: str = "koi", **more: Any) -> dict[str, Any]:
    """A job of a shot of its own."""
    request = {"prompt": prompt, "seed": 1, **more.pop("request", {})}
    (job,) = studio.submit({"preset": "demo", "request": request, **more})
    return job


def made(studio: Client, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(job, take) of a job that is done."""
    job = added(studio, **more)
    until(studio, lambda _: studio.get(f"/jobs/{job['id']}")["job"]["ended_at"] is not None)
    job = studio.get(f"/jobs/{job['id']}")["job"]
    return job, studio.get(f"/takes/{job['take_id']}")["take"]


# ----------------------------------------------------------------------------------- the studio


def test_the_studio_says_who_it_is_and_proves_it(served: Path):
    found = discovery.find()
    assert found is not None
    said = ask("GET", f"/hello?nonce={'n' * 16}").json
    assert said == {
        "api": discovery.API,
        "version": __version__,
        "pid": found.pid,
        "proof": discovery.proof(found.token, "studio", "n" * 16, found.port),
    }


def test_the_queue_has_a_mode_and_counts(halted: Client):
    assert halted.get("/queue")["mode"] == "stop_after"
    assert halted.patch("/queue", {"mode": "pause"})["mode"] == "pause"
    before = halted.get("/queue")
    added(halted)
    now = halted.get("/queue")
    assert now["counts"]["queued"] == before["counts"]["queued"] + 1
    assert now["seq"] > before["seq"] and now["running"] == []


def test_the_machine_says_what_it_has(studio: Client):
    said = studio.get("/machine")
    (slot,) = said["slots"]
    assert slot["name"] == "cpu" and slot["state"] in ("idle", "busy")
    for part in ("host", "disk"):
        assert 0 < said[part]["free_bytes"] <= said[part]["total_bytes"]
    assert studio.post("/machine/slots/cpu/enable")["slots"] == [slot]


def test_presets_and_checkpoints_are_listed(studio: Client):
    presets = {preset["name"]: preset for preset in studio.get("/presets")["presets"]}
    assert presets["demo"]["title"] and presets["demo"]["defaults"]["checkpoint"]
    known = {one["name"]: one for one in studio.get("/catalog")["checkpoints"]}
    assert known[presets["demo"]["defaults"]["checkpoint"]]["is_installed"]
    assert any(not one["is_installed"] for one in known.values())


def test_a_forecast_says_whether_and_with_what(studio: Client):
    said = studio.post("/plan", {"preset": "demo", "request": {"prompt": "koi"}})
    assert said["is_admitted"] and said["hint"] == ""
    assert set(said) > {"is_admitted", "hint", "minutes"}
    large = {"prompt": "koi", "checkpoint": "wan2.2-i2v-a14b", "frames": 81}
    reply = ask("POST", "/plan", {"request": large | {"width": 3840, "height": 2160}})
    assert reply.status == 422 and reply.json["hint"]  # it needs a first frame


# --------------------------------------------------------------------------------------- adding


def test_jobs_are_added_once_for_a_key(halted: Client):
    body = {
        "key": "00000000-0000",
        "shot": {"name": "SC 010", "placement": {"track": 1, "words": ["kept", None]}},
        "preset": "demo",
        "request": {"prompt": "koi"},
        "seeds": [3, 1, 2],
    }
    first = ask("POST", "/jobs", body)
    assert first.status == 201
    jobs = first.json["jobs"]
    assert [job["request"]["seed"] for job in jobs] == [3, 1, 2]
    assert {job["shot_name"] for job in jobs} == {"SC 010"} and {job["state"] for job in jobs} == {
        "queued"
    }
    again = ask("POST", "/jobs", body)
    assert again.status == 200 and [job["id"] for job in again.json["jobs"]] == [
        job["id"] for job in jobs
    ]
    other = ask("POST", "/jobs", body | {"seeds": [4]})
    assert (other.status, other.json["code"]) == (409, "conflict")
    said = halted.get(f"/shots/{jobs[0]['shot_id']}")
    assert said["shot"]["placement"] == body["shot"]["placement"] and said["takes"] == []
    (more,) = halted.submit(
        {"shot_id": jobs[0]["shot_id"], "preset": "demo", "request": {"prompt": "x"}}
    )
    assert more["shot_id"] == jobs[0]["shot_id"]


def test_a_job_without_a_seed_gets_one_and_without_a_shot_its_prompt(halted: Client):
    (first,) = halted.submit({"preset": "demo", "request": {"prompt": "two\nlines"}})
    (second,) = halted.submit({"preset": "demo", "request": {"prompt": "two\nlines"}})
    assert first["shot_name"] == "two lines" and first["shot_id"] != second["shot_id"]
    assert first["request"]["seed"] != second["request"]["seed"]


def test_a_new_job_can_be_put_in_front(halted: Client):
    last, first = added(halted), added(halted, front=True)
    assert [job["id"] for job in halted.get("/jobs")["jobs"]] == [first["id"], last["id"]]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"request": {}}, "bad_request"),
        ({"preset": "demo", "request": {"prompt": " "}}, "bad_request"),
        ({"preset": "demo", "request": {"prompt": "koi", "colour": 1}}, "bad_request"),
        ({"preset": "demo", "request": {"prompt": "koi", "frames": 10**6}}, "bad_request"),
        ({"preset": "demo", "request": {"prompt": "koi"}, "shot": {"name": " "}}, "bad_request"),
        ({"preset": "demo", "request": {"prompt": "koi"}, "seeds": [-1]}, "bad_request"),
        ({"preset": "none", "request": {"prompt": "koi"}}, "bad_preset"),
        ({"preset": "demo", "request": {"prompt": "koi", "clip": {"path": "/no/x.mp4"}}}, "media"),
        ({"preset": "demo", "request": {"prompt": "koi"}, "shot_id": NOBODY}, "not_found"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused_with_its_reason(halted: Client, body: Any, code: str):
    before = halted.get("/queue")["seq"]
    reply = ask("POST", "/jobs", body)
    assert reply.status == (404 if code == "not_found" else 422)
    assert set(reply.json) == {"code", "message", "hint", "details"}
    assert reply.json["code"] == code and reply.json["message"]
    assert reply.json["hint"] or code == "not_found"
    assert halted.get("/queue")["seq"] == before


# ------------------------------------------------------------------------------------- the queue


def test_the_queue_is_read_in_pages(halted: Client):
    jobs = [added(halted, prompt=f"koi {number}")["id"] for number in range(5)]
    first = halted.get("/jobs", limit=2)["jobs"]
    second = halted.get("/jobs", limit=2, after=first[-1]["id"])["jobs"]
    third = halted.get("/jobs", limit=2, after=second[-1]["id"])["jobs"]
    assert [job["id"] for job in first + second + third] == jobs


def test_the_history_is_read_in_pages_and_searched(halted: Client):
    jobs = [added(halted, prompt=f"pond {number}") for number in range(5)]
    page = halted.get("/jobs", view="history", limit=3)["jobs"]
    rest = halted.get("/jobs", view="history", limit=3, before=page[-1]["number"])["jobs"]
    assert [job["id"] for job in page + rest][:5] == [job["id"] for job in reversed(jobs)]
    found = halted.get("/jobs", view="history", search="POND 3")["jobs"]
    assert [job["id"] for job in found] == [jobs[3]["id"]]


def test_jobs_are_moved(halted: Client):
    one, two, three = (added(halted)["id"] for _ in range(3))

    def order(**asked: Any) -> list[str]:
        halted.post("/jobs/move", asked)
        return [job["id"] for job in halted.get("/jobs")["jobs"]]

    assert order(ids=[three]) == [three, one, two]
    assert order(ids=[three], to="end") == [one, two, three]
    assert order(ids=[three, three], before=two) == [one, three, two]
    assert ask("POST", "/jobs/move", {"ids": [NOBODY]}).status == 404


def test_a_job_is_paused_resumed_cancelled_and_tried_again(halted: Client):
    path = f"/jobs/{added(halted)['id']}"
    for action, state in (
        *(("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")),
        *(("retry", "queued"), ("pause", "paused"), ("cancel", "cancelled")),
    ):
        assert halted.post(f"{path}/{action}")["state"] == state
        assert halted.get(path)["job"]["state"] == state
    for action in ("pause", "resume"):
        reply = ask("POST", f"{path}/{action}", {})
        assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert ask("POST", f"{path}/retry").status == 415  # not JSON
    connection_reply = ask("POST", f"{path}/retry", None, **{"Content-Type": "application/json"})
    assert connection_reply.status == 200  # no body at all is one with nothing in it


def test_a_job_that_waits_is_edited_and_made_again(halted: Client):
    job = added(halted)
    edited = halted.patch(
        f"/jobs/{job['id']}", {"request": {"prompt": "carp", "base": {"steps": 3}}}
    )
    assert edited["prompt"] == "carp" and edited["request"]["base"]["steps"] == 3
    assert edited["request"]["seed"] == 1
    same = ask("POST", f"/jobs/{job['id']}/again", {"new_seed": False})
    assert same.status == 201 and same.json["id"] != job["id"]
    assert same.json["request"] == edited["request"] and same.json["shot_id"] == job["shot_id"]
    other = halted.post(f"/jobs/{job['id']}/again")
    assert other["request"]["seed"] != 1


def test_all_that_wait_are_cancelled_and_cleared(halted: Client):
    jobs = [added(halted) for _ in range(3)]
    assert halted.post("/jobs/cancel") == {"count": 3}
    assert halted.get("/jobs")["jobs"] == []
    assert halted.post("/jobs/clear") == {"count": 3}
    assert halted.get("/jobs", view="history")["jobs"] == []
    assert halted.get(f"/jobs/{jobs[0]['id']}")["job"]["is_cleared"]


@pytest.mark.parametrize(
    "path",
    [f"/jobs/{NOBODY}{rest}" for rest in ("", "/log", "/preview.jpg")]
    + [f"/shots/{NOBODY}", f"/takes/{NOBODY}", f"/takes/{NOBODY}/media", "/nothing"],
)
def test_what_is_not_there_is_not_found(studio: Client, path: str):
    reply = ask("GET", path)
    assert (reply.status, reply.json["code"]) == (404, "not_found")


# ------------------------------------------------------------------------------- what jobs leave


def test_a_job_that_runs_says_how_far_it_is(studio: Client):
    job = added(studio, prompt="long")
    seen: list[dict[str, Any]] = []
    deadline = time.monotonic() + 120
    while not studio.get(f"/jobs/{job['id']}")["job"]["ended_at"]:
        assert time.monotonic() < deadline
        said = studio.get(f"/jobs/{job['id']}")
        if said["progress"]:
            seen.append(said["progress"])
    assert seen and {progress["job_id"] for progress in seen} == {job["id"]}
    steps = [progress["step"] for progress in seen]
    assert steps == sorted(steps) and steps[-1] > 0


def test_a_take_is_found_judged_and_read(studio: Client, served: Path):
    job, take = made(studio, prompt="carp in a pond", shot={"name": "SC 020"})
    said = studio.get(f"/takes/{take['id']}")
    path = Path(said["path"])
    assert path.parent == served / "takes" and path.name == take["file"]
    assert said["sidecar"]["request"] == job["request"]
    content = path.read_bytes()
    whole = ask("GET", f"/takes/{take['id']}/media")
    assert (whole.status, whole.body, whole.headers["content-type"]) == (200, content, "video/mp4")
    part = ask("GET", f"/takes/{take['id']}/media", Range="bytes=2-5")
    assert (part.status, part.body) == (206, content[2:6])
    assert take["verdict"] == "new"
    assert studio.patch(f"/takes/{take['id']}", {"verdict": "approved"})["verdict"] == "approved"

    def listed(**query: Any) -> list[str]:
        return [one["id"] for one in studio.get("/takes", **query)["takes"]]

    assert take["id"] in listed(verdict="approved") and take["id"] not in listed(verdict="rejected")
    assert listed(shot=take["shot_id"]) == [take["id"]] == listed(search="carp pond")
    assert len(listed(limit=1)) == 1
    assert [one["id"] for one in studio.get(f"/shots/{take['shot_id']}")["takes"]] == [take["id"]]
    assert take["shot_id"] in [shot["id"] for shot in studio.get("/shots")["shots"]]
    reply = ask("POST", f"/takes/{take['id']}/finish", {})
    assert (reply.status, reply.json["code"]) == (409, "conflict")  # it is no draft


def test_a_draft_is_finished_as_a_job_of_its_shot(studio: Client):
    _, take = made(studio, request={"draft": True, "width": 128, "height": 128})
    assert take["is_draft"]
    reply = ask("POST", f"/takes/{take['id']}/finish", {"request": {"refine": {"strength": 0.4}}})
    assert reply.status == 201
    job = reply.json
    assert job["draft_take"] == take["id"] and job["shot_id"] == take["shot_id"]
    assert not job["request"]["draft"] and job["request"]["refine"]["strength"] == 0.4


def test_a_preview_is_a_picture_as_soon_as_there_is_one(halted: Client, served: Path):
    job = added(halted)
    path = f"/jobs/{job['id']}/preview.jpg"
    assert ask("GET", path).status == 404
    picture = b"\xff\xd8\xff\xe0 a picture"
    (served / "jobs" / job["id"] / "preview.jpg").write_bytes(picture)
    reply = ask("GET", path)
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, picture, "image/jpeg")


def test_the_end_of_a_long_log_is_read(halted: Client, served: Path):
    job = added(halted)
    assert halted.get(f"/jobs/{job['id']}/log") == {"text": ""}
    (served / "jobs" / job["id"] / "worker.log").write_bytes(b"x" * 200_000 + b"\xff\nthe end\n")
    text = halted.get(f"/jobs/{job['id']}/log")["text"]
    assert text.endswith("the end\n") and 1000 < len(text) <= 65536


# --------------------------------------------------------------------------------------- changes


def rows(said: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(kind, id, number of its change) of all that is in an answer."""
    return [
        (kind, row["id"], row["seq"]) for kind in ("shots", "jobs", "takes") for row in said[kind]
    ]


def test_changes_are_read_in_pages_until_there_is_no_more(halted: Client):
    after = halted.get("/changes", after=2**53)["seq"]
    jobs = [added(halted)["id"] for _ in range(4)]
    whole = halted.get("/changes", after=after)
    assert whole["is_whole"] and {row[1] for row in rows(whole)} >= set(jobs)
    paged: list[tuple[str, str, int]] = []
    at = after
    while True:
        page = halted.get("/changes", after=at, limit=3)
        paged += rows(page)
        assert len(rows(page)) <= 3 and page["seq"] > at
        at = page["seq"]
        if page["is_whole"]:
            break
    assert sorted(paged) == sorted(rows(whole)) and at == whole["seq"]
    assert rows(halted.get("/changes", after=at)) == []


def test_who_waits_for_a_change_is_told_at_once_or_when_it_is_time(halted: Client):
    after = halted.get("/queue")["seq"]
    began = time.monotonic()
    assert rows(halted.get("/changes", after=after, wait=1)) == []
    assert time.monotonic() - began > 0.8
    timer = threading.Timer(0.3, lambda: added(halted))
    timer.start()
    began = time.monotonic()
    said = halted.get("/changes", after=after, wait=20)
    assert len(said["jobs"]) == 1 and time.monotonic() - began < 19
    timer.join()


class Event(NamedTuple):
    kind: str
    id: str
    content: dict[str, Any]


def stream(query: str = "", **headers: str) -> Iterator[Event]:
    """Events as they come; closed with the generator."""
    found = discovery.find()
    assert found is not None
    connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=120)
    sent = {"Authorization": f"Bearer {found.token}", **headers}
    connection.request("GET", f"/v1/events{query}", headers=sent)
    response = connection.getresponse()
    try:
        assert response.status == 200
        assert response.getheader("Content-Type", "").startswith("text/event-stream")
        fields: dict[str, str] = {}
        while line := response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif fields:
                yield Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
                fields = {}
    finally:
        response.close()
        connection.close()


def first(events: Iterator[Event]) -> Event:
    return next(event for event in events if event.kind == "changes")


def test_a_stream_begins_after_what_was_seen(halted: Client):
    one = added(halted)
    seen = halted.get("/queue")["seq"]
    two = added(halted)
    for events in (
        stream(f"?after={seen}"),
        stream(**{"Last-Event-ID": str(seen)}),
        stream("?after=0", **{"Last-Event-ID": str(seen)}),  # it is the later word
        stream(f"?after={seen}", **{"Last-Event-ID": "no number"}),
    ):
        event = first(events)
        events.close()  # type: ignore[attr-defined]
        assert [job["id"] for job in event.content["jobs"]] == [two["id"]]
        assert int(event.id) == event.content["seq"] > seen
    event = first(events := stream())
    events.close()  # type: ignore[attr-defined]
    assert {one["id"], two["id"]} <= {job["id"] for job in event.content["jobs"]}


def test_a_stream_that_is_cut_and_gone_on_with_has_missed_nothing(studio: Client):
    """Cut after every event: with all its pieces the client knows what one who asks now is told."""
    start = studio.get("/queue")["seq"]
    job = added(studio, prompt="cut")
    known: dict[str, dict[str, Any]] = {}
    after, numbers = start, [start]
    while not known.get(job["id"], {}).get("ended_at"):
        event = first(events := stream(**{"Last-Event-ID": str(after)}))
        events.close()  # type: ignore[attr-defined]
        known |= {
            row["id"]: row for kind in ("jobs", "takes", "shots") for row in event.content[kind]
        }
        after = int(event.id)
        numbers.append(after)
    until(studio, lambda queue: not queue["running"])
    now = studio.get("/changes", after=start)
    told = {row["id"]: row for kind in ("jobs", "takes", "shots") for row in now[kind]}
    assert {row["id"] for row in now["takes"]} <= set(known) and told[job["id"]] == known[job["id"]]
    assert numbers == sorted(numbers)


def test_a_stream_tells_of_progress(studio: Client):
    job = added(studio, prompt="progress")
    steps: list[int] = []
    for event in (events := stream(f"?after={job['seq'] - 1}")):
        if event.kind == "progress" and event.content["job_id"] == job["id"]:
            steps.append(event.content["step"])
        elif event.kind == "changes" and any(one["ended_at"] for one in event.content["jobs"]):
            break
    events.close()  # type: ignore[attr-defined]
    assert steps and steps == sorted(steps)


def test_no_answer_is_kept_by_anyone(studio: Client):
    for path in ("/queue", "/jobs", "/takes", "/nothing", f"/takes/{NOBODY}/media"):
        headers = ask("GET", path).headers
        assert (
            headers["cache-control"] == "no-store"
            and headers["x-content-type-options"] == "nosniff"
        )
