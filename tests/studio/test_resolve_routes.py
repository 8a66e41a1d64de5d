"""What clients ask of Resolve through the API, with the real plugin in front of a fake Resolve."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import inside
import pytest
from inside import Inside
from serving import serving

from freeswim.errors import Conflict, FreeswimError
from freeswim.studio import client
from freeswim.studio.client import Client

Json = dict[str, Any]
NOT_CONNECTED = (
    "Resolve is not connected. In it, choose Workspace > Scripts > FreeSwim > FreeSwim Connect."
)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Client]:
    """One for each test: a Resolve that was killed counts as connected for a minute."""
    with serving(tmp_path / "home"):
        found = client.connect()
        assert found is not None
        yield found


@pytest.fixture
def resolve(tmp_path: Path, studio: Client) -> Iterator[Inside]:
    """Connected; its playhead is at 01:00:10;00."""
    inside.install(tmp_path)
    with inside.resolve(tmp_path, tmp_path, rate="29.97 DF") as running:
        running.world.timeline.playhead = running.world.timeline.start + 300
        running.choose("FreeSwim Connect")
        until(lambda: studio.get("/resolve")["state"] == "connected")
        yield running


def until(look: Callable[[], Any]) -> Any:
    """What `look` gives, once it gives something."""
    deadline = time.monotonic() + 120
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def begin(studio: Client, verb: str, key: str = "") -> str:
    """A verb, as the app asks for it; its key."""
    key = key or secrets.token_hex(16)
    studio.post("/resolve/verbs", {"verb": verb, "key": key})
    return key


def news_of(studio: Client, verb: str) -> list[Json]:
    return [one for one in studio.get("/resolve")["news"] if one["verb"] == verb]


def owner(studio: Client) -> Json:
    return studio.get("/resolve")["links"][0]


def test_where_nobody_is_connected_a_verb_is_refused_with_what_to_do(studio: Client):
    with pytest.raises(Conflict) as refused:
        begin(studio, "generate_at_playhead")
    assert refused.value.message == NOT_CONNECTED
    studio.post("/resolve/look")
    assert studio.get("/resolve")["news"] == []


def test_where_the_editor_is_comes_with_an_event(studio: Client, resolve: Inside):
    events: list[str] = []
    listening = threading.Event()

    def listen() -> None:
        for event in studio.events(0):
            events.append(event.kind)
            listening.set()
            if event.kind == "resolve":
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(30)
    studio.post("/resolve/look")
    thread.join(30)
    assert events[-1] == "resolve"
    where = until(lambda: owner(studio)["where"])
    assert where == {
        "page": "edit",
        "project": resolve.world.film.id,
        "project_name": "Film",
        "timeline": resolve.world.timeline.id,
        "timeline_name": "Edit",
        "rate": "30000/1001",
        "is_drop_frame": True,
        "start_timecode": "01:00:00;00",
    }


def test_a_verb_of_a_client_is_done_where_the_editor_is_by_then(studio: Client, resolve: Inside):
    resolve.world.timeline.playhead += 30
    key = begin(studio, "generate_at_playhead")
    until(lambda: news_of(studio, "generate_at_playhead"))
    (wish,) = studio.get("/resolve")["wishes"]
    place = wish["shot"]["placement"]["resolve"]
    assert place["record_frame"] == resolve.world.timeline.start + 330
    begin(studio, "generate_at_playhead", key)
    begin(studio, "place_finished_takes")
    until(lambda: news_of(studio, "place_finished_takes"))
    assert len(news_of(studio, "generate_at_playhead")) == 1  # the same key is not done again

    dropped = studio.post(f"/resolve/shots/{wish['shot']['id']}/drop")
    assert dropped["placement"] == {"forgotten": True}
    until(lambda: not resolve.world.timeline.markers)
    with pytest.raises(Conflict, match="waits for no prompt"):
        studio.post(f"/resolve/shots/{wish['shot']['id']}/drop")


def test_a_verb_that_finds_nothing_to_do_says_so_in_the_news(studio: Client, resolve: Inside):
    begin(studio, "generate_from_markers")
    (news,) = until(lambda: news_of(studio, "generate_from_markers"))
    assert news["is_error"]
    assert news["message"] == "There is no Mint marker with a prompt on this timeline."


def test_what_the_app_cannot_have_meant_is_refused(studio: Client):
    for body in (
        {"verb": "delete_everything", "key": "0" * 32},
        {"verb": "fill_gap", "key": "short"},
        {"verb": "fill_gap"},
        {"verb": "fill_gap", "key": "0" * 32, "context": {}},
    ):
        with pytest.raises(FreeswimError) as refused:
            studio.post("/resolve/verbs", body)
        assert refused.value.code == "bad_request"
