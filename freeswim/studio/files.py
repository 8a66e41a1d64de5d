"""Files that the API hands out: previews, logs, and takes by range."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi.responses import JSONResponse, Response, StreamingResponse

from freeswim import paths
from freeswim.errors import NotFound
from freeswim.studio.wire import Error

PIECE_BYTES = 1 << 18  # of a take, handed out at once


def read_if_there(path: Path) -> bytes | None:
    """The end of a file, at most a few megabytes."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (4 << 20)))
        return file.read()
    return None


def media_response(path: Path, asked: str) -> Response:
    """A take's file, or the one range of it that was asked for."""
    if path.parent != paths.takes() or path.name.startswith("."):
        raise NotFound("The take's file is gone.")
    try:
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError as error:
        raise NotFound("The take's file is gone.") from error
    file = os.fdopen(descriptor, "rb")
    size = os.fstat(descriptor).st_size
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{path.name}"',
    }
    span = _range(asked, size)
    if span is None:
        file.close()
        said = Error(code="bad_range", message="The range is not one of the file.")
        return JSONResponse(said.model_dump(), 416, {"Content-Range": f"bytes */{size}"})
    start, end = span
    headers["Content-Length"] = str(end - start)
    if asked:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"

    async def pieces() -> AsyncIterator[bytes]:
        with file:
            file.seek(start)
            left = end - start
            while left > 0:
                piece = await asyncio.to_thread(file.read, min(left, PIECE_BYTES))
                if not piece:
                    return
                left -= len(piece)
                yield piece

    status = 206 if asked else 200
    return StreamingResponse(pieces(), status, headers, media_type="video/mp4")


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """(start, end) of a header with one range, half-open; None: it is none of the file."""
    if not asked:
        return 0, size
    match = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", asked)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    return (start, end) if start < end else None
