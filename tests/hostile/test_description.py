"""What the API says of itself, tried on it by schemathesis; with the token and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from speaker import ROUTES, Speaker

from freeswim.studio.api import description

COMMITTED = Path(__file__).parents[2] / "docs" / "api.json"

schema: Any = schemathesis.openapi.from_dict(json.loads(description())).exclude(
    path=["/v1/stop", "/v1/events"]  # it would be gone; it would never end
)
quick = settings(max_examples=12, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxy
    return session


def test_the_document_is_the_one_that_is_committed():
    """`python -m freeswim.studio.api > docs/api.json` writes it."""
    assert json.loads(COMMITTED.read_text("utf-8")) == json.loads(description())


def test_every_route_is_in_the_document_and_says_what_it_does():
    paths = json.loads(description())["paths"]
    said = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert said == {(route.method, route.template) for route in ROUTES}
    for methods in paths.values():
        for operation in methods.values():
            assert operation["description"] and "default" in operation["responses"]


@schema.parametrize()
@quick
def test_what_is_said_holds(case: Any, studio: Speaker, session: requests.Session):
    """No answer is another than the document's, and none an error of the studio itself."""
    if "wait" in (case.query or {}):
        case.query["wait"] = 0
    response = case.call(
        base_url=f"http://127.0.0.1:{studio.port}",
        headers={"Authorization": f"Bearer {studio.token}"},
        session=session,
    )
    Speaker.sent += 1
    assert response.status_code < 500
    assert studio.token.encode() not in response.content
    schema_checks = schemathesis.checks.CHECKS.get_by_names(
        ["not_a_server_error", "content_type_conformance", "response_schema_conformance"]
    )
    case.validate_response(response, checks=schema_checks)


@schema.parametrize()
@quick
def test_without_the_token_all_of_it_is_refused(
    case: Any, studio: Speaker, session: requests.Session
):
    response = case.call(base_url=f"http://127.0.0.1:{studio.port}", session=session)
    Speaker.sent += 1
    assert response.status_code in (401, 403, 421)
    assert response.json()["code"] in ("bad_token", "foreign_origin", "bad_host")
