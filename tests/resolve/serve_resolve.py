"""`freeswim serve` with the fake worker, whose takes are no video: masters of them are taken as made."""

from __future__ import annotations

import sys

from at_work import FAKE_WORKER, PATIENCE

from freeswim.studio.daemon import serve
from freeswim.studio.resolve import placer

if __name__ == "__main__":
    placer.PREPARE = (sys.executable, "-I", "-c", sys.argv[1])
    serve(worker=FAKE_WORKER, patience=PATIENCE)
