"""The database file: opened whole, or quarantined and made anew from its backups.

SQLite notices most damage and not all: a file of no bytes looks new, a flipped bit in a text looks
right, a lost last byte goes unseen. So a second file remembers which database belongs here, every
request has its checksum beside it, and the size is counted. What the last backup does not have is
in the job folders (folders.py).
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from freeswim import paths
from freeswim.errors import StudioError
from freeswim.studio.store import SCHEMA, Store, create_tables, request_sha256, store_error

log = logging.getLogger(__name__)

BACKUPS_KEPT = 5
BACKUP_EVERY_S = 24 * 3600.0
RESERVE_BYTES = 64 * 1024  # given up on a full disk, so that the state can still be written


@dataclass(frozen=True)
class Opened:
    """The store, and what had to be done to have it."""

    store: Store
    is_new: bool = False
    quarantined: Path | None = None  # where the damaged database is now
    restored_from: Path | None = None  # backup; None with `quarantined`: there was no sound one


def open_database() -> Opened:
    """Open the studio's database, or what can be saved of it.

    Raises:
        StudioError: it is of a newer FreeSwim, or the folder cannot be used.
    """
    path = paths.database()
    sentinel = path.with_suffix(".identity")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        identity = sentinel.read_text("ascii").strip() if sentinel.is_file() else ""
        if not identity and not path.exists():
            identity = secrets.token_hex(16)
            _create(path, identity)
            sentinel.write_text(identity, "ascii")
            _keep_reserve()
            return Opened(Store(_connect(path)), is_new=True)
        if damage := _damage(path, identity):
            log.error("the database is damaged: %s", damage)
            return _salvaged(path, sentinel)
        if not identity:  # lost, or a power cut between the two
            sentinel.write_text(_identity(path), "ascii")
        _keep_reserve()
        return Opened(Store(_connect(path)))
    except OSError as error:
        raise StudioError(
            f"{path.parent} cannot be written: {error.strerror}.",
            hint="Make the folder writable, or name another with FREESWIM_HOME.",
        ) from error
    except sqlite3.OperationalError as error:
        raise store_error(error) from error


def back_up(store: Store) -> None:
    """Keep a copy of the database, if the last one is a day old and something has changed."""
    folder = paths.backups()
    newest = max(_backups(), default=None)
    if newest is not None:
        with closing(_connect(newest)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE name = 'seq'").fetchone()
        if row is not None and int(row[0]) == store.seq:
            return
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part"
    part.unlink(missing_ok=True)
    try:
        store.back_up(part)
        part.replace(folder / f"studio-{time.time_ns():020d}.db")
    finally:
        part.unlink(missing_ok=True)
    for old in sorted(_backups(), reverse=True)[BACKUPS_KEPT:]:
        old.unlink(missing_ok=True)


def release_reserve() -> bool:
    """Give up the room that was kept for a full disk; whether there was any."""
    reserve = _reserve()
    there_was = reserve.is_file()
    with suppress(OSError):
        reserve.unlink(missing_ok=True)
    return there_was


def _keep_reserve() -> None:
    with suppress(OSError):  # a disk that is full already has none to keep
        if not _reserve().is_file():
            _reserve().write_bytes(b"\0" * RESERVE_BYTES)


def _reserve() -> Path:
    return paths.database().with_suffix(".reserve")


def _backups() -> list[Path]:
    return list(paths.backups().glob("studio-*.db"))


def _connect(path: Path) -> sqlite3.Connection:
    """One connection; the store hands it from thread to thread, never to two at once."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _create(path: Path, identity: str) -> None:
    """A whole new database, or none."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with closing(_connect(part)) as connection:
        create_tables(connection, identity)
    part.replace(path)


def _identity(path: Path) -> str:
    with closing(_connect(path)) as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
        return row[0]


def _damage(path: Path, identity: str) -> str:
    """What is wrong with the database; nothing where it is whole.

    Raises:
        StudioError: it is of a newer FreeSwim.
    """
    if not path.is_file():
        return "it is gone"
    size = path.stat().st_size
    try:
        with closing(_connect(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise StudioError(
                    f"The database is of a newer FreeSwim (schema {version}, here {SCHEMA}).",
                    hint="Install that version again; the file was not touched.",
                )
            pages, page = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size")
            )
            if size != pages * page or size == 0:
                return f"it has {size} bytes instead of {pages * page}"
            if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                return said
            found = connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
            if found is None or (identity and found[0] != identity):
                return "it is another database"
            for row in connection.execute("SELECT number, request, request_sha256 FROM jobs"):
                if request_sha256(row[1]) != row[2]:
                    return f"the request of job {row[0]} has changed"
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and _is_of_the_disk(error):
            raise
        return str(error)
    return ""


def _is_of_the_disk(error: sqlite3.OperationalError) -> bool:
    """Whether the file may be sound all the same."""
    return error.sqlite_errorname.split("_")[1] in ("FULL", "CANTOPEN", "READONLY", "BUSY", "PERM")


def _salvaged(path: Path, sentinel: Path) -> Opened:
    """Put the damaged database aside and take the newest sound backup in its place."""
    quarantined = None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    for file in (path, path.with_name(f"{path.name}-journal")):
        if file.exists():
            aside = file.with_name(f"{file.name}.corrupt-{stamp}-{secrets.token_hex(2)}")
            file.replace(aside)
            quarantined = quarantined or aside
    for backup in sorted(_backups(), reverse=True):
        if _damage(backup, ""):
            continue
        part = path.with_suffix(".part")
        part.write_bytes(backup.read_bytes())
        part.replace(path)
        sentinel.write_text(_identity(path), "ascii")
        return Opened(Store(_connect(path)), quarantined=quarantined, restored_from=backup)
    identity = secrets.token_hex(16)
    _create(path, identity)
    sentinel.write_text(identity, "ascii")
    return Opened(Store(_connect(path)), is_new=True, quarantined=quarantined)
