"""How much is computed at once. Speed would take more, memory less; plan.py forecasts with these.

They belong to the program and not to the machine: another grouping may round otherwise, and the
same request is to give the same bytes.
"""

from __future__ import annotations

# Tokens up to which conditional and unconditional go as one batch, and weights are read once for
# both. Above it a row fills any device by itself, and two would only need twice the memory.
BATCHED_TOKENS = 1 << 16

# Pixels of a frame that the autoencoder codes in one piece: 480p in any aspect. Wan 2.1's decoder
# needs 20 KB a pixel, 18 GB for 720p, where the tiles of larger frames need 5.
WHOLE_FRAME = 420_000
TILE = 512  # side of the tiles of larger frames, px
STRIDE = 384  # from one tile to the next, px
