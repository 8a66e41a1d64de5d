"""How much is computed at once. Speed would take more, memory less; plan.py forecasts with these.

They belong to the program and not to the machine: another grouping may round otherwise, and the
same request is to give the same bytes.
"""

from __future__ import annotations

# Tokens up to which conditional and unconditional go as one batch, and weights are read once for
# both. Above it a row fills the device by itself, and two would only need twice the memory: on a
# CPU two of 15,360 tokens take 6 % longer than one after the other (measured).
BATCHED_TOKENS = {"cuda": 1 << 16, "cpu": 1 << 12}

# Tokens of every row that a block's parts compute at once where tokens do not meet.
TOKENS_AT_ONCE = {"cuda": 1 << 14, "cpu": 1 << 10}

# Pixels of a frame that the autoencoder codes in one piece: 480p in any aspect. Wan 2.1's decoder
# needs 20 KB a pixel, 18 GB for 720p, where the tiles of larger frames need 5.
WHOLE_FRAME = 420_000
TILE = 512  # side of the tiles of larger frames, px
STRIDE = 384  # from one tile to the next, px


def rows_at_once(num_tokens: int, device_type: str) -> int:
    """Rows of so many tokens that are forwarded as one batch."""
    return 2 if num_tokens <= BATCHED_TOKENS[device_type] else 1
