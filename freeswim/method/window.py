"""Inward sliding window: which keys a query sees.

FreeSwim, arXiv 2511.14712. Per spatial axis the window has the length that the model was trained
on and never shrinks at a border: it moves inward. A query sees the product of its row range and
its column range, in every latent frame. For odd lengths this is neighbourhood attention (NATTEN)
with kernel (frames, rows, columns).
"""

from __future__ import annotations

from dataclasses import dataclass

from freeswim.errors import RequestError


def window_length(num_tokens: int, native_tokens: int) -> int:
    """Keys that a query sees along one axis, `min(2 * (native_tokens // 2) + 1, num_tokens)`."""
    return min(2 * (native_tokens // 2) + 1, num_tokens)


def window_start(query: int, num_tokens: int, native_tokens: int) -> int:
    """First key that the query at `query` sees along one axis.

    Args:
        query: position of the query, 0 ≤ query < num_tokens.
        num_tokens: tokens along this axis.
        native_tokens: tokens along this axis at the checkpoint's native size.
    """
    last_start = num_tokens - window_length(num_tokens, native_tokens)
    return min(max(query - native_tokens // 2, 0), last_start)


@dataclass(frozen=True)
class InwardWindow:
    """The window of one token grid; hashable, so that what is derived from it can be kept.

    Raises:
        RequestError: an axis has no tokens.
    """

    frames: int  # latent frames, ≥ 1; every frame is seen
    rows: int  # tokens down one latent frame, ≥ 1
    columns: int  # tokens across one latent frame, ≥ 1
    native_rows: int  # the same at the checkpoint's native size, ≥ 1
    native_columns: int

    def __post_init__(self) -> None:
        sizes = (self.frames, self.rows, self.columns, self.native_rows, self.native_columns)
        if min(sizes) < 1:
            raise RequestError(
                f"A token grid needs at least one token along each axis, not {sizes}.",
                hint="Ask for a larger size or more frames.",
            )

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole clip."""
        return self.frames * self.rows * self.columns

    @property
    def num_rows(self) -> int:
        """Rows that a query sees."""
        return window_length(self.rows, self.native_rows)

    @property
    def num_columns(self) -> int:
        """Columns that a query sees."""
        return window_length(self.columns, self.native_columns)

    @property
    def num_keys(self) -> int:
        """Keys that a query sees; the same for every query."""
        return self.frames * self.num_rows * self.num_columns

    @property
    def is_full(self) -> bool:
        """Whether every query sees every key."""
        return self.num_keys == self.num_tokens

    def row_start(self, row: int) -> int:
        """First row that a query in `row` sees."""
        return window_start(row, self.rows, self.native_rows)

    def column_start(self, column: int) -> int:
        """First column that a query in `column` sees."""
        return window_start(column, self.columns, self.native_columns)
