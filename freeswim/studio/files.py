"""Files that the API hands out: previews, logs, and takes by range."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import JsonValue, TypeAdapter

from freeswim import paths
from freeswim.errors import MediaError, NotFound
from freeswim.sidecar import read_sidecar, sidecar_path
from freeswim.studio.wire import Error

PIECE_BYTES = 1 << 18  # of a take, handed out at once

_JSON = TypeAdapter(dict[str, JsonValue])


def read_if_there(path: Path) -> bytes | None:
    """The end of a file of a job's folder, at most a few megabytes; None: it is not there."""
    if path.parent.is_symlink():
        return None
    with contextlib.suppress(OSError), _open(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (4 << 20)))
        return file.read()
    return None


def _open(path: Path) -> BinaryIO:
    """A file that is one: no link is followed, no pipe waited for.

    Raises:
        OSError: it is none.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # each system has its own
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is no file")
    return os.fdopen(descriptor, "rb")


def sidecar_of(media: Path) -> dict[str, JsonValue]:
    """What a take's sidecar says.

    Raises:
        NotFound: it is gone, or something else is in its place.
        MediaError: it cannot be read.
    """
    path = sidecar_path(media)
    if path.is_symlink() or not path.is_file():
        raise NotFound("The take's sidecar is gone.")
    try:
        said = _JSON.validate_python(read_sidecar(media))
        json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise MediaError(f"{path.name} holds what is no JSON.") from error
    return said


def media_response(path: Path, asked: str) -> Response:
    """A take's file, or the one range of it that was asked for."""
    if path.parent != paths.takes() or path.name.startswith("."):
        raise NotFound("The take's file is gone.")
    try:
        file = _open(path)
    except OSError as error:
        raise NotFound("The take's file is gone.") from error
    size = os.fstat(file.fileno()).st_size
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
