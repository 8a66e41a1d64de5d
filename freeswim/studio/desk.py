"""The store in a thread of its own, and the bell that rings at every change.

The daemon lives in one event loop; a commit waits for the disk, so it is done beside the loop, one
at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from freeswim.studio.store import Store, store_error

Answer = TypeVar("Answer")


class Desk:
    """Where everybody in the daemon asks for the state and changes it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._bell = asyncio.Event()
        self.seq = store.seq  # of the last change of the store
        self.rings = 0  # counts up at everything that happens, progress as well

    async def ask(self, work: Callable[[Store], Answer]) -> Answer:
        """What `work` reads."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work, self._store)
        except sqlite3.OperationalError as error:
            raise store_error(error) from error

    async def change(self, work: Callable[[Store], Answer]) -> Answer:
        """What `work` gives, after its change is on the disk; then the bell rings."""

        def changed(store: Store) -> tuple[Answer, int]:
            return work(store), store.seq

        loop = asyncio.get_running_loop()
        answer, seq = await loop.run_in_executor(self._thread, changed, self._store)
        if seq != self.seq:
            self.seq = seq
            self.ring()
        return answer

    def ring(self) -> None:
        """Wake everybody who waits."""
        self.rings += 1
        self._bell.set()
        self._bell = asyncio.Event()

    async def wait(self, after: int, timeout: float) -> None:
        """Until the store has changed after change `after`, or something else has happened."""
        if self.seq > after:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.wait(), timeout)

    async def close(self) -> None:
        """After what was begun is done."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()
