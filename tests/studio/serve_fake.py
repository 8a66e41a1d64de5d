"""`freeswim serve` with the fake worker: for clients that need a studio in a process of its own."""

from __future__ import annotations

from at_work import FAKE_WORKER, PATIENCE

from freeswim.studio.daemon import serve

if __name__ == "__main__":
    serve(worker=FAKE_WORKER, patience=PATIENCE)
