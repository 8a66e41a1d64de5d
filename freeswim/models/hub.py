"""What is asked of the Hugging Face Hub: a checkpoint's list of files, and their bytes.

A client of our own, on the HTTP library that huggingface_hub brings. Its own downloader compares
sizes but no checksums, cannot be paused, and lays files out in its own way; and our processes
forbid it the network (quiet.py), which stays so. Of it we take the person's access token.

The Hub is not trusted with this machine: names that lead elsewhere are refused, redirects are
followed by hand, the token goes to the Hub alone, and every length has a limit.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import socket
import threading
import urllib.parse
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from freeswim.errors import Cancelled, DownloadError
from freeswim.models.catalog import Checkpoint

MOST_LIST_BYTES = 8 * 2**20
MOST_FILES = 1000
LARGEST_FILE = 10**12
MOST_REDIRECTS = 5
SILENCE_S = 10.0  # of a server, before it is asked again
RESTS_S = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 30.0)  # between tries without a new byte
BLOCK = 2**22  # bytes that are hashed at once

_FOLDERS = (
    "transformer|transformer_2|text_encoder|vae|image_encoder|image_processor|scheduler|tokenizer"
)
# All that is ever loaded, and so all that is fetched: no pickles, no programs, no pictures.
_NEEDED = re.compile(rf"model_index\.json|(?:{_FOLDERS})/\w[\w.-]*\.(?:json|safetensors|model|txt)")
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")

OnBytes = Callable[[int], None]  # gets how many there are by now


class RemoteFile(BaseModel):
    """A file of a checkpoint as it was published; one of the two checksums is known."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=rf"^(?:{_NEEDED.pattern})$")  # in the checkpoint's folder
    size: int = Field(ge=0, le=LARGEST_FILE)  # bytes
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    git_sha1: str = Field(default="", pattern=r"^([0-9a-f]{40})?$")  # of a small one: git's own


class Listing(BaseModel):
    """The files of a checkpoint in one commit of its repository."""

    model_config = ConfigDict(frozen=True)

    repository: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")  # a commit: what it means never changes
    files: tuple[RemoteFile, ...]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files)


def is_needed(name: str) -> bool:
    """Whether a checkpoint is loaded from files of this name."""
    return _NEEDED.fullmatch(name) is not None


def endpoint() -> str:
    """Address of the Hub; `HF_ENDPOINT` names another, a mirror."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def list_files(checkpoint: Checkpoint, revision: str = "") -> Listing:
    """What the Hub says `checkpoint` consists of.

    Args:
        revision: a commit; empty: the newest one of the catalog's revision.

    Raises:
        DownloadError: the Hub cannot be reached, does not give it, or lists what is no checkpoint.
    """
    repository = str(checkpoint.repository)
    wanted = urllib.parse.quote(revision or checkpoint.revision, safe="")
    url = f"{endpoint()}/api/models/{repository}/revision/{wanted}?blobs=true"
    try:
        with _client() as client, _explained(repository):
            content = _read_list(client, url, repository)
    except _Broken as error:
        raise error.reason from error
    try:
        return _parsed(repository, json.loads(content))
    except (ValidationError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DownloadError(
            f"The Hub's list of {repository} cannot be read.", hint="Try again later."
        ) from error


def fetch(
    listing: Listing, file: RemoteFile, part: Path, *, stop: threading.Event, on_bytes: OnBytes
) -> None:
    """Bring `part` to the file's size, from where it ends; a broken connection is made again.

    Raises:
        Cancelled: `stop` was set; what came so far is kept.
        DownloadError: it does not come, or more comes than there should.
        OSError: the disk refused.
    """
    most, tries = size_of(part), 0
    with _client() as client:
        transfer = _Transfer(client, listing, file, part, stop, on_bytes)
        while size_of(part) != file.size or not part.exists():
            try:
                with _explained(listing.repository):
                    transfer.go_on()
            except _Broken as error:
                gained, most = size_of(part) > most, max(most, size_of(part))
                tries = 0 if gained else tries + 1
                if tries > len(RESTS_S):
                    raise error.reason from error
                if stop.wait(RESTS_S[max(0, tries - 1)]):
                    raise Cancelled from error


def is_whole(
    path: Path, file: RemoteFile, *, stop: threading.Event, on_bytes: OnBytes = lambda _: None
) -> str:
    """The SHA-256 of a file on this disk if it is the published one; empty: it is not.

    Raises:
        Cancelled: `stop` was set.
        OSError: it cannot be read.
    """
    if not path.is_file() or path.stat().st_size != file.size:
        return ""
    sha256, git = hashlib.sha256(), hashlib.sha1(f"blob {file.size}\0".encode())
    done = 0
    with path.open("rb") as content:
        while block := content.read(BLOCK):
            if stop.is_set():
                raise Cancelled
            sha256.update(block)
            if file.git_sha1:
                git.update(block)
            done += len(block)
            on_bytes(done)
    found = sha256.hexdigest()
    agrees = found == file.sha256 if file.sha256 else git.hexdigest() == file.git_sha1
    return found if agrees else ""


def size_of(path: Path) -> int:
    """Bytes of a file; 0: it is not there."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


# -------------------------------------------------------------------------------------- inside


class _Broken(Exception):
    """The connection broke or never was; `reason` says so where it stays like that."""

    def __init__(self, reason: DownloadError) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _client() -> httpx2.Client:
    return httpx2.Client(timeout=SILENCE_S, headers={"User-Agent": "freeswim"})


@contextmanager
def _explained(repository: str) -> Generator[None]:
    """Faults of the connection, in words."""
    host = urllib.parse.urlsplit(endpoint()).netloc
    local = "Check the connection, or use an existing folder that holds the files."
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        raise _Broken(DownloadError(f"{host} cannot be reached.", hint=local)) from error
    except httpx2.TransportError as error:
        words = f"The connection to {host} breaks again and again."
        raise _Broken(DownloadError(words, hint=f"What came is kept. {local}")) from error
    except httpx2.InvalidURL as error:
        words = f"The Hub sends us to an address that is none, for {repository}."
        raise DownloadError(words, hint="Try again later.") from error


@contextmanager
def _opened(
    client: httpx2.Client, url: str, repository: str, offset: int = 0
) -> Generator[httpx2.Response]:
    """The answer at the end of the redirects."""
    hub = _origin(endpoint())
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    for _ in range(MOST_REDIRECTS + 1):
        _check_address(url, repository)
        token = _token() if _origin(url) == hub else None
        allowed = {"Authorization": f"Bearer {token}"} if token else {}
        with client.stream("GET", url, headers=headers | allowed) as response:
            place = response.headers.get("location", "")
            if response.status_code not in (301, 302, 303, 307, 308) or not place:
                yield response
                return
        try:
            url = urllib.parse.urljoin(url, place)
        except ValueError:
            url = ""
    raise DownloadError(f"The Hub sends us round in circles for {repository}.")


def _check_address(url: str, repository: str) -> None:
    """Refuse what no Hub has a reason to send anybody to."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        is_right = parts.scheme in ("https", urllib.parse.urlsplit(endpoint()).scheme)
    except ValueError:
        host, is_right = "", False
    own = urllib.parse.urlsplit(endpoint()).hostname or ""
    if not host or not is_right or (_is_private(host) and not _is_private(own)):
        raise DownloadError(
            f"The Hub sends us to {host[:80] or 'no host'} for {repository}, which is refused.",
            hint="Try again later; somebody may be between this machine and the Hub.",
        )


def _is_private(host: str) -> bool:
    """Whether a host is of this machine or its network. One that only a proxy knows is not."""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return any(not ipaddress.ip_address(str(one[4][0]).split("%")[0]).is_global for one in found)


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        return "", "", None


def _token() -> str | None:
    """What shows the Hub who the person is, where they have told this machine."""
    from huggingface_hub import get_token

    return get_token()


def _refuse(status: int, repository: str) -> NoReturn:
    page = f"{endpoint()}/{repository}"
    if status in (401, 403):
        raise DownloadError(
            f"The Hub gives {repository} only to people it knows ({status}).",
            hint=f"Accept its conditions at {page}, then run: hf auth login. Then go on here.",
            details={"status": status},
        )
    if status in (404, 410):
        raise DownloadError(
            f"The Hub has no {repository}, or not this file of it ({status}).",
            hint=f"See {page}; a newer FreeSwim may know where it is now.",
            details={"status": status},
        )
    error = DownloadError(f"The Hub answers {status}.", hint="What came is kept. Try again later.")
    if status in (408, 429) or status >= 500:
        raise _Broken(error)
    raise error


def _read_list(client: httpx2.Client, url: str, repository: str) -> bytes:
    content = b""
    with _opened(client, url, repository) as response:
        if response.status_code != 200:
            _refuse(response.status_code, repository)
        for block in response.iter_raw():
            content += block
            if len(content) > MOST_LIST_BYTES:
                raise DownloadError("The Hub's list of files is longer than any list is.")
    return content


def _parsed(repository: str, said: Any) -> Listing:
    files: list[RemoteFile] = []
    siblings = said["siblings"]
    if len(siblings) > MOST_FILES:
        raise ValueError("too many files")
    for sibling in siblings:
        name = sibling["rfilename"]
        _check_name(name)
        if is_needed(name):
            lfs = sibling.get("lfs") or {}
            size = lfs.get("size", sibling["size"])
            git = "" if lfs else sibling["blobId"]
            files.append(
                RemoteFile(name=name, size=size, sha256=lfs.get("sha256", ""), git_sha1=git)
            )
            if not (lfs.get("sha256") or git):
                raise ValueError("a file without a checksum")
    names = [file.name for file in files]
    if "model_index.json" not in names or len({name.lower() for name in names}) != len(names):
        raise ValueError("no checkpoint")
    return Listing(repository=repository, revision=said["sha"], files=tuple(files))


def _check_name(name: Any) -> None:
    """Refuse a list with a name in it that leads out of the checkpoint's folder."""
    if not isinstance(name, str):
        raise ValueError("a name that is no text")
    parts = PurePosixPath(name).parts
    is_plain = name.isprintable() and not set(name) & set('\\:*?"<>|')
    if not parts or ".." in parts or name.startswith(("/", "~")) or not is_plain:
        raise DownloadError(
            f"The Hub lists a file that would lead out of its folder: {name[:80]!r}.",
            hint="Nothing of it was fetched. Report it.",
        )


@dataclass(frozen=True)
class _Transfer:
    """One file on its way into `part`."""

    client: httpx2.Client
    listing: Listing
    file: RemoteFile
    part: Path
    stop: threading.Event
    on_bytes: OnBytes

    def go_on(self) -> None:
        """One connection's worth of it."""
        file, part, repository = self.file, self.part, self.listing.repository
        name = urllib.parse.quote(file.name)
        url = f"{endpoint()}/{repository}/resolve/{self.listing.revision}/{name}"
        offset = size_of(part)
        if offset > file.size:
            self._start_over("What was there is longer than the file.")
        with _opened(self.client, url, repository, offset) as response:
            status = response.status_code
            if status == 416 or (status == 206 and not _goes_on(response, offset, file.size)):
                self._start_over("The Hub does not go on where we are.")
            if status not in (200, 206):
                _refuse(status, repository)
            self._write(response.iter_raw(), offset if status == 206 else 0)
        if size_of(part) < file.size:
            raise _Broken(DownloadError(f"{file.name} ends too early.", hint="Try again later."))
        if size_of(part) > file.size:
            part.unlink()
            raise DownloadError(
                f"{file.name} is longer than it was published; it was thrown away.",
                hint="Try again later.",
            )

    def _start_over(self, why: str) -> NoReturn:
        self.part.unlink(missing_ok=True)
        raise _Broken(DownloadError(f"{why} ({self.file.name})", hint="Try again later."))

    def _write(self, blocks: Iterator[bytes], offset: int) -> None:
        with self.part.open("r+b" if offset else "wb", buffering=0) as place:
            place.seek(offset)
            for block in blocks:
                if self.stop.is_set():
                    raise Cancelled
                rest = memoryview(block)
                while rest:  # without a buffer a disk may take a piece of it
                    rest = rest[place.write(rest) :]
                offset += len(block)
                self.on_bytes(offset)
                if offset > self.file.size:
                    return


def _goes_on(response: httpx2.Response, offset: int, size: int) -> bool:
    said = _RANGE.fullmatch(response.headers.get("content-range", ""))
    return said is not None and (int(said[1]), int(said[3])) == (offset, size)
