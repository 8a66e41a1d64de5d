"""Bodies that no library writes, to every route that takes one: refused, and nothing breaks."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from speaker import BODIES, MARK, SOME_ID, Route, Speaker, refused

# One that is right for each route; a new route is attacked from {}.
RIGHT: dict[str, Any] = {
    "/v1/queue": {"mode": "run"},
    "/v1/jobs": {
        "key": "",
        "shot": {"name": "x", "placement": {"clip": 1}},
        "shot_id": "",
        "preset": "demo",
        "request": {
            "prompt": "koi",
            "width": 64,
            "frames": 5,
            "seed": 1,
            "clip": {"path": "/nowhere/x.mp4", "sha256": "0" * 64},
            "loras": [{"file": {"path": "/nowhere/x"}, "weight": 1.0}],
            "refine": {"strength": 0.5},
        },
        "seeds": [1],
        "front": False,
    },
    "/v1/jobs/move": {"ids": [SOME_ID], "to": "front", "before": ""},
    "/v1/jobs/{job_id}": {"request": {"prompt": "koi"}},
    "/v1/jobs/{job_id}/again": {"new_seed": True},
    "/v1/takes/{take_id}": {"verdict": "approved"},
    "/v1/takes/{take_id}/finish": {"request": {"base": {"steps": 1}}},
    "/v1/plan": {"preset": "demo", "request": {"prompt": "koi"}},
}
BAD = {
    "NaN": b'{"x": NaN}',
    "Infinity": b'{"x": [-Infinity]}',
    "a huge exponent": b'{"x": 1e400}',
    "400 digits": b'{"x": ' + b"7" * 400 + b"}",
    "400 digits and a fraction": b'{"x": ' + b"7" * 400 + b".5}",
    "100,000 digits": b"9" * 100_000,
    "2**53 + 1": b'{"x": -9007199254740993}',
    "a lone surrogate": b'{"x": "\\ud800"}',
    "a lone surrogate for a name": b'{"\\udfff": 1}',
    "surrogates the wrong way": b'"\\udc00\\ud800"',
    "a surrogate in UTF-8": b'{"x": "\xed\xa0\x80"}',
    "invalid UTF-8": b'{"x": "\xff\xfe"}',
    "overlong UTF-8": b'{"x": "\xc0\xaf"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-32": "{}".encode("utf-32-be"),
    "NUL": b'{"x": "\\u0000"}',
    "NUL after a backslash": b'{"x": "\\\\\\u0000"}',
    "NUL for a name": b'{"\\u0000": 1}',
    "a bare NUL": b'{"x": "\x00"}',
    "control characters": b'{"x": "\n\x1b"}',
    "a name twice": b'{"request": {}, "request": {}}',
    "a name twice, in other words": b'{"mode": "run", "mod\\u0065": "run"}',
    "a name twice, deep": b'{"x": [{"y": {"a": 1, "a": 1}}]}',
    "33 deep": b"[" * 33 + b"]" * 33,
    "100 deep": b'{"x":' * 100 + b"1" + b"}" * 100,
    "100 deep after a string of brackets": b'["]]]]\\"", ' + b"[" * 100 + b"]" * 101,
    "100,000 deep": b"[" * 100_000,
    "100,000 objects deep": b'{"a":' * 100_000,
    "100,000 closed": b"]" * 100_000,
    "half a body": b'{"request": {"prompt": "ko',
    "two bodies": b"{}{}",
    "a comma too many": b'{"x": 1,}',
    "a comment": b"{/* */}",
    "single quotes": b"{'x': 1}",
    "no quotes": b"{x: 1}",
    "hexadecimal": b'{"x": 0x10}',
    "a leading zero": b'{"x": 01}',
    "a plus": b'{"x": +1}',
    "white space of another kind": "\u00a0{}".encode(),
    "nothing but space": b" \n ",
    "True": b"True",
    "a form": b"mode=run",
    "a pickle": b"\x80\x04K\x01.",
    "YAML": b"!!python/object/apply:os.system [id]",
}
SLOW = {  # for who looks at a byte more than once
    "an endless string": b'"' + b"a" * 1_000_000,
    "an endless string of quotes": b'"' + b'\\"' * 500_000,
    "an endless string of backslashes": b'"' + b"\\" * 999_999,
    "quotes": b'"' * 1_000_000,
    "quotes and backslashes": b'"\\' * 500_000,
    "brackets": b"[]" * 500_000,
    "a million commas": b"[" + b"," * 999_998 + b"]",
}


def by_route(route: Route) -> str:
    return f"{route.method} {route.template}"


@pytest.mark.parametrize("route", BODIES, ids=by_route)
def test_what_readers_understand_differently_is_refused(studio: Speaker, route: Route):
    for words, body in BAD.items():
        answer = studio.ask(route.method, route.path, body=body)
        assert (answer.status, answer.json["code"]) == (400, "bad_json"), (words, answer)


@pytest.mark.parametrize("words", SLOW)
def test_no_body_keeps_the_others_waiting(studio: Speaker, words: str):
    began = time.monotonic()
    answer = studio.ask("POST", "/v1/jobs", body=SLOW[words])
    assert answer.status == 400, answer
    assert time.monotonic() - began < 30, "a body is looked at again and again"


def test_a_body_as_large_as_it_may_be_is_read(studio: Speaker):
    body = {"preset": "demo", "request": {"prompt": "koi"}, "shot": {"name": "x"}}
    for filling in (
        {"x": '\\"' * 200_000},
        {"x": [[]] * 200_000},
        {str(n): n for n in range(70_000)},
    ):
        body["shot"] = {"name": "x", "placement": filling}
        sent = json.dumps(body, separators=(",", ":")).encode()
        assert 500_000 < len(sent) <= 1 << 20
        began = time.monotonic()
        answer = studio.ask("POST", "/v1/jobs", body=sent)
        assert answer.status in (201, 422), answer
        assert time.monotonic() - began < 30


def test_what_looks_like_nul_or_depth_and_is_none_passes(studio: Speaker):
    for prompt in (
        "\\u0000",
        "\\\\u0000",
        "[" * 1000,
        '{"a": ' * 100,
        '"' * 100,
        "\\" * 99,
        "\ud83d\udc1f".encode("utf-16", "surrogatepass").decode("utf-16"),
    ):
        body = {"preset": "demo", "request": {"prompt": prompt}}
        assert studio.post("/v1/plan", body).status == 200, prompt


def test_what_is_wrong_is_named_and_not_repeated(studio: Speaker):
    for body in (
        {"mode": MARK},
        {"mode": [MARK]},
        {"mode": {"x": MARK}},
        {"mode": "run", "x": MARK},
        [MARK],
        MARK,
    ):
        answer = studio.post("/v1/queue", body, method="PATCH")
        refused([answer], 422)
        assert answer.json["code"] == "bad_request" and answer.json["hint"]
    answer = studio.post("/v1/queue", {"mode": "run", "\u202e\u00e9" * 5000: 1}, method="PATCH")
    refused([answer], 422)
    assert answer.body.isascii() and len(answer.body) < 1000


def test_an_error_repeats_no_more_than_a_sentence(studio: Speaker):
    for fields in ({"prompt": "x" * 500_000}, {"prompt": "x", "checkpoint": "x" * 500_000}):
        answer = studio.post("/v1/plan", {"preset": "demo", "request": fields})
        refused([answer], 422)
        assert len(answer.body) < 5000


# ------------------------------------------------------------------------------------ at random

_TEXTS = st.one_of(
    st.text(max_size=20).map(lambda text: json.dumps(text).encode()),
    st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False).encode()),
    st.sampled_from(
        [b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"' + b"a" * 20_000 + b'"', b'"../../x"']
    ),
)
_NUMBERS = st.one_of(
    st.integers(-(2**60), 2**60).map(lambda number: str(number).encode()),
    st.floats().map(lambda number: json.dumps(number).encode()),
    st.sampled_from(
        [b"1e400", b"-0", b"-0.0", b"1e-400", b"7" * 400, b"9007199254740992", b"4294967296"]
    ),
)
_LEAVES = st.one_of(
    _TEXTS,
    _NUMBERS,
    st.sampled_from([b"null", b"true", b"{}", b"[]", b"", b"NaN", b"[" * 100, b'{"a":1,"a":1}']),
)
_RAW = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: b"[" + b",".join(parts) + b"]"),
        st.lists(st.tuples(_TEXTS, inner), max_size=4).map(
            lambda pairs: b"{" + b",".join(name + b":" + value for name, value in pairs) + b"}"
        ),
    ),
    max_leaves=8,
)


def places(body: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every value in a body."""
    found = [place]
    pairs = (
        body.items()
        if isinstance(body, dict)
        else enumerate(body)
        if isinstance(body, list)
        else ()
    )
    for name, value in pairs:
        found += places(value, (*place, name))
    return found


def with_raw(body: Any, place: tuple[Any, ...], raw: bytes) -> bytes:
    """A body with bytes in the place of one of its values."""
    holder: Any = {"body": json.loads(json.dumps(body))}
    at = holder
    for name in (steps := ("body", *place))[:-1]:
        at = at[name]
    at[steps[-1]] = MARK
    return json.dumps(holder["body"]).encode().replace(f'"{MARK}"'.encode(), raw)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Route, bytes]:
    """A route, and a body that is right but for one value; or not even that."""
    route = draw(st.sampled_from([route for route in BODIES if route.path != "/v1/stop"]))
    body = RIGHT.get(route.template, {})
    raw = draw(_RAW)
    if draw(st.integers(0, 9)) == 0:
        return route, raw
    return route, with_raw(body, draw(st.sampled_from(places(body))), raw)


@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
@given(asked=requests())
@example((BODIES[-1], b""))
def test_no_body_breaks_anything(studio: Speaker, asked: tuple[Route, bytes]):
    """`Speaker.exchange` looks at every answer."""
    route, body = asked
    answer = studio.ask(route.method, route.path, body=body)
    assert answer.status in (200, 201, 202, 400, 404, 409, 422), (route, body, answer)
    if answer.status >= 400:
        assert len(answer.body) < 5000, "an error repeats what was sent"


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=200))
def test_no_bytes_break_anything(studio: Speaker, body: bytes):
    answer = studio.ask("PATCH", "/v1/queue", body=body)
    assert answer.status in (200, 400, 422), answer
