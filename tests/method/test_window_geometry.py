from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswim.errors import RequestError
from freeswim.method.window import InwardWindow, window_length, window_start

axis = st.integers(1, 60)


@given(num_tokens=axis, native=axis)
def test_every_query_sees_a_window_of_the_same_length_inside_the_frame(
    num_tokens: int, native: int
):
    length = window_length(num_tokens, native)
    for query in range(num_tokens):
        start = window_start(query, num_tokens, native)
        assert 0 <= start <= query < start + length <= num_tokens


@given(num_tokens=axis, native=axis)
def test_window_is_centred_wherever_the_frame_allows_it(num_tokens: int, native: int):
    radius = native // 2
    for query in range(radius, num_tokens - radius):
        assert window_start(query, num_tokens, native) == query - radius


def test_window_of_the_native_size_is_the_one_the_paper_uses():
    window = InwardWindow(frames=21, rows=68, columns=120, native_rows=30, native_columns=52)
    assert (window.num_rows, window.num_columns) == (31, 53)
    assert window.num_tokens == 171_360


def test_window_larger_than_the_frame_is_full_attention():
    assert InwardWindow(3, 8, 8, native_rows=8, native_columns=9).is_full
    assert not InwardWindow(3, 10, 8, native_rows=8, native_columns=9).is_full


def test_grid_without_tokens_is_refused():
    with pytest.raises(RequestError, match="at least one token"):
        InwardWindow(1, 0, 8, native_rows=8, native_columns=8)
