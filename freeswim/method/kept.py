"""Where the full branch's cross-attention outputs are kept from one refresh to the next.

They are the largest thing that a refine pass holds: 281 GB for Wan 2.1 14B at 4K in bfloat16. On
the device they cost no time. In host memory they leave beside the computation, block by block, and
come back one block ahead of their use; the pixels are the same. In fp8 they take half the room, and
the pixels are nearly the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from freeswim.method.settings import KeptPrecision

Placement = Literal["device", "host"]

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max  # 448
# Tokens converted at once: float32 copies of a whole block would be as large as what is kept.
CONVERTED_TOKENS = 1 << 14
# Bytes of one piece of pinned memory. torch rounds what it pins up to a power of two, which for a
# block in one piece could be twice its size.
PINNED_BYTES = 1 << 25


class Kept:
    """Cross-attention outputs of one forward of the full branch, (rows, tokens, D) of each block.

    One object serves all refreshes of a pass: `begin` forgets, `append` fills in block order,
    `get` may then be called in any order, and is quickest in block order.

    Args:
        device: where they are made and used.
        placement: where they are in between; `host` on a CPU is where they are anyway.
        precision: fp8 keeps one byte for each value and a scale for each token.
    """

    def __init__(
        self,
        device: torch.device,
        placement: Placement = "device",
        precision: KeptPrecision = "plain",
    ) -> None:
        self._precision = precision
        self._dtype = torch.float32  # of what was appended last
        in_host_memory = placement == "host" and device.type == "cuda"
        self._shelf: _Shelf = _PinnedShelf(device) if in_host_memory else _DeviceShelf()

    def begin(self) -> None:
        """Forget what was kept; memory of the host stays for what comes next."""
        self._shelf.clear()

    def append(self, out: Tensor) -> None:
        """Keep the output of the next block, (rows, tokens, D)."""
        self._dtype = out.dtype
        self._shelf.put((out,) if self._precision == "plain" else to_fp8(out))

    def get(self, block_index: int) -> Tensor:
        """What the block gave, (rows, tokens, D), on the device."""
        parts = self._shelf.take(block_index)
        return parts[0] if self._precision == "plain" else from_fp8(*parts, dtype=self._dtype)

    @property
    def num_blocks(self) -> int:
        """Blocks kept since `begin`."""
        return len(self._shelf)

    @property
    def num_bytes(self) -> int:
        """Size of what is kept; `settings.kept_bytes` forecasts it."""
        return self._shelf.num_bytes


def to_fp8(out: Tensor) -> tuple[Tensor, Tensor]:
    """Values in float8 e4m3 and their scales, one for each token.

    Args:
        out: (rows, tokens, D).

    Returns:
        (values, the same shape; scales, (rows, tokens, 1), float32).
    """
    values = torch.empty_like(out, dtype=FP8)
    scales = out.new_empty(*out.shape[:2], 1, dtype=torch.float32)
    for tokens in _token_pieces(out.shape[1]):
        exact = out[:, tokens].float()
        scale = exact.abs().amax(-1, keepdim=True) / FP8_MAX
        scale = torch.where(scale == 0, 1.0, scale)  # a token of zeros stays one
        # Rounding of the quotient must not step over the largest number: beyond it there is none.
        values[:, tokens] = (exact / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8)
        scales[:, tokens] = scale
    return values, scales


def from_fp8(values: Tensor, scales: Tensor, *, dtype: torch.dtype) -> Tensor:
    """What `to_fp8` was given, up to its rounding."""
    out = torch.empty_like(values, dtype=dtype)
    for tokens in _token_pieces(out.shape[1]):
        out[:, tokens] = (values[:, tokens].float() * scales[:, tokens]).to(dtype)
    return out


def _token_pieces(num_tokens: int) -> Iterator[slice]:
    for first in range(0, num_tokens, CONVERTED_TOKENS):
        yield slice(first, first + CONVERTED_TOKENS)


# ------------------------------------------------------------------------------------- shelves

_Parts = tuple[Tensor, ...]  # what is kept of one block


class _Shelf(Protocol):
    """Holds the parts of each block."""

    @property
    def num_bytes(self) -> int: ...

    def __len__(self) -> int: ...

    def clear(self) -> None: ...

    def put(self, parts: _Parts) -> None: ...

    def take(self, block_index: int) -> _Parts: ...


class _DeviceShelf:
    """Keeps the tensors themselves."""

    def __init__(self) -> None:
        self._blocks: list[_Parts] = []

    @property
    def num_bytes(self) -> int:
        return sum(part.nbytes for parts in self._blocks for part in parts)

    def __len__(self) -> int:
        return len(self._blocks)

    def clear(self) -> None:
        self._blocks.clear()

    def put(self, parts: _Parts) -> None:
        self._blocks.append(parts)

    def take(self, block_index: int) -> _Parts:
        return self._blocks[block_index]


class _PinnedShelf:
    """Keeps copies in pinned host memory, on a stream of their own in both directions.

    One stream puts the copies of a block in order by itself: out, in as often as needed, and out
    again at the next refresh. Tensors of the device that it reads or writes are recorded on it, so
    that their memory is not used again before it is done, whatever stops the pass.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._blocks: list[_PinnedBlock] = []  # never shrinks
        self._num_kept = 0
        self._left: torch.cuda.Event | None = None  # of the copy that went out last
        self._ahead: _Arrival | None = None  # the copy that came in before it was asked for

    @property
    def num_bytes(self) -> int:
        return sum(block.num_bytes for block in self._blocks[: self._num_kept])

    def __len__(self) -> int:
        return self._num_kept

    def clear(self) -> None:
        self._num_kept, self._ahead = 0, None

    def put(self, parts: _Parts) -> None:
        # At most one block waits for its copy: were the forward faster than the bus, the device
        # would fill with them.
        if self._left is not None:
            self._left.synchronize()
        index = self._num_kept
        if index == len(self._blocks):
            self._blocks.append(_PinnedBlock(parts))
        elif not self._blocks[index].fits(parts):  # another expert's
            self._blocks[index] = _PinnedBlock(parts)
        flat = [_flat_bytes(part) for part in parts]
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for source, pieces in zip(flat, self._blocks[index].pieces, strict=True):
                for piece, values in zip(pieces, source.split(PINNED_BYTES), strict=True):
                    piece.copy_(values, non_blocking=True)
                source.record_stream(self._stream)
        self._left = self._event()
        self._num_kept += 1

    def take(self, block_index: int) -> _Parts:
        arrival = self._ahead
        if arrival is None or arrival.block_index != block_index:
            arrival = self._fetch(block_index)
        following = block_index + 1
        self._ahead = self._fetch(following) if following < self._num_kept else None
        torch.cuda.current_stream(self._device).wait_event(arrival.event)
        return arrival.parts

    def _fetch(self, block_index: int) -> _Arrival:
        """Starts the copy of a block to the device."""
        block = self._blocks[block_index]
        parts = tuple(
            torch.empty(shape, dtype=dtype, device=self._device) for shape, dtype in block.layout
        )
        # What was queued before may still use the memory that these got.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for part, pieces in zip(parts, block.pieces, strict=True):
                for values, piece in zip(
                    _flat_bytes(part).split(PINNED_BYTES), pieces, strict=True
                ):
                    values.copy_(piece, non_blocking=True)
                part.record_stream(self._stream)
        return _Arrival(block_index, parts, self._event())

    def _event(self) -> torch.cuda.Event:
        """Happens when the copies started so far are done."""
        event = torch.cuda.Event()
        event.record(self._stream)
        return event


class _Arrival(NamedTuple):
    """Parts of a block on their way to the device; there once `event` has happened."""

    block_index: int
    parts: _Parts
    event: torch.cuda.Event


class _PinnedBlock:
    """Pinned memory for the parts of one block."""

    def __init__(self, parts: _Parts) -> None:
        self.layout = _layout(parts)
        self.num_bytes = sum(part.nbytes for part in parts)
        self.pieces = [_pinned_pieces(part.nbytes) for part in parts]

    def fits(self, parts: _Parts) -> bool:
        return self.layout == _layout(parts)


def _layout(parts: _Parts) -> tuple[tuple[torch.Size, torch.dtype], ...]:
    return tuple((part.shape, part.dtype) for part in parts)


def _pinned_pieces(num_bytes: int) -> list[Tensor]:
    return [
        torch.empty(min(PINNED_BYTES, num_bytes - first), dtype=torch.uint8, pin_memory=True)
        for first in range(0, num_bytes, PINNED_BYTES)
    ]


def _flat_bytes(part: Tensor) -> Tensor:
    return part.contiguous().view(torch.uint8).flatten()
