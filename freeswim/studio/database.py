"""The database file: opened whole, or quarantined and made anew from its backups.

SQLite notices most damage and not all: a file of no bytes looks new, a flipped bit in a text looks
right, a lost last byte goes unseen. So a second file remembers which database belongs here, every
request has its checksum beside it, and the size is counted. What the last backup does not have is
in the job folders (folders.py).
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from freeswim import paths
from freeswim.errors import StudioError
from freeswim.studio.folders import all_folders
from freeswim.studio.job import JobState
from freeswim.studio.store import (
    MIGRATIONS,
    SCHEMA,
    Store,
    create_tables,
    error_name,
    request_sha256,
    store_error,
)

log = logging.getLogger(__name__)

BACKUPS_KEPT = 5
BACKUP_EVERY_S = 24 * 3600.0
CHANGES_OF_A_LIFE = 2**32  # more than a database sees before it is damaged
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
        if not identity and not path.exists() and not _backups():
            identity = secrets.token_hex(16)
            _create(path, identity)
            sentinel.write_text(identity, "ascii")
            keep_reserve()
            return Opened(Store(_connect(path)), is_new=True)
        _migrate(path)
        if damage := _damage(path, identity):
            log.error("the database is damaged: %s", damage)
            return _salvaged(path, sentinel)
        if not identity:  # lost, or a power cut between the two
            sentinel.write_text(_identity(path), "ascii")
        keep_reserve()
        return Opened(Store(_connect(path)))
    except OSError as error:
        raise StudioError(
            f"{path.parent} cannot be written: {error.strerror}.",
            hint="Make the folder writable, or name another with FREESWIM_HOME.",
        ) from error
    except sqlite3.OperationalError as error:
        raise store_error(error) from error


def back_up(store: Store) -> None:
    """Keep a copy of the database, if something has changed and the disk takes one."""
    try:
        _back_up(store)
    except (OSError, sqlite3.Error) as error:
        log.warning("no backup was made: %s", error)


def _back_up(store: Store) -> None:
    folder = paths.backups()
    newest = max(_backups(), default=None)
    if newest is not None and _seq(newest) == str(store.seq):
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part"
    part.unlink(missing_ok=True)
    number = time.time_ns()
    if newest is not None:  # however the clock was set since
        number = max(number, int(newest.stem.removeprefix("studio-")) + 1)
    try:
        store.back_up(part)
        part.replace(folder / f"studio-{number:020d}.db")
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


def keep_reserve() -> None:
    """Have the reserve on the disk, if it takes it."""
    with suppress(OSError):  # a disk that is full already has none to keep
        if not _reserve().is_file():
            _reserve().write_bytes(b"\0" * RESERVE_BYTES)


def _reserve() -> Path:
    return paths.database().with_suffix(".reserve")


def _backups() -> list[Path]:
    return list(paths.backups().glob(f"studio-{'[0-9]' * 20}.db"))


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


def _seq(path: Path) -> str:
    """Number of the last change of a backup; empty where it cannot be read."""
    with suppress(sqlite3.Error), closing(_connect(path)) as connection:
        row = connection.execute("SELECT value FROM meta WHERE name = 'seq'").fetchone()
        return "" if row is None else row[0]
    return ""


def _damage(path: Path, identity: str) -> str:
    """What is wrong with the database; nothing where it is whole.

    Raises:
        StudioError: it is of a newer FreeSwim.
    """
    if not path.is_file():
        return "it is gone"
    if (version := _version(path)) > SCHEMA:
        raise StudioError(
            f"The database is of a newer FreeSwim (schema {version}, here {SCHEMA}).",
            hint="Install that version again; the file was not touched.",
        )
    try:
        with closing(_connect(path)) as connection:
            return (
                _damage_of_file(connection, path)
                or _damage_of_tables(connection, identity)
                or _damage_of_rows(connection)
            )
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and _is_of_the_disk(error):
            raise
        return str(error)
    except (ValueError, TypeError, LookupError) as error:
        return f"a row cannot be read: {type(error).__name__}"


def _version(path: Path) -> int:
    """Number of the schema; 0 where it cannot be read. Touches nothing, whatever is there."""
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
        with closing(connection):
            return connection.execute("PRAGMA user_version").fetchone()[0]
    return 0


def _migrate(path: Path) -> None:
    """Make a database of an older schema one of this; one that is damaged is found out later."""
    try:
        while path.is_file() and (version := _version(path)) in MIGRATIONS:
            with closing(_connect(path)) as connection:
                connection.executescript(
                    f"BEGIN; {MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;"
                )
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and _is_of_the_disk(error):
            raise


def _damage_of_file(connection: sqlite3.Connection, path: Path) -> str:
    pages, page = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    size = path.stat().st_size  # by now: a change that a crash cut off is rolled back
    if size != pages * page or size == 0:
        return f"it has {size} bytes instead of {pages * page}"
    said = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if said != "ok":
        return said
    lost = connection.execute("PRAGMA foreign_key_check").fetchone()
    return "" if lost is None else f"a row of {lost[0]} belongs to nothing"


def _damage_of_tables(connection: sqlite3.Connection, identity: str) -> str:
    with closing(sqlite3.connect(":memory:")) as whole:
        create_tables(whole, "")
        if _columns(connection) != _columns(whole):
            return "its tables have changed"
    found = connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
    is_ours = found is not None and (not identity or found[0] == identity)
    return "" if is_ours else "it is another database"


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    text = (
        "SELECT tables.name, columns.name FROM sqlite_master AS tables"
        " JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table' ORDER BY 1, 2"
    )
    return connection.execute(text).fetchall()


def _damage_of_rows(connection: sqlite3.Connection) -> str:
    text = "SELECT number, request, request_sha256, prompt FROM jobs"
    for number, request, sha256, prompt in connection.execute(text):
        if request_sha256(request) != sha256 or json.loads(request)["prompt"] != prompt:
            return f"the request of job {number} has changed"
    store, seq, is_whole = Store(connection), 0, False
    while not is_whole:
        changes = store.changes(seq)
        seq, is_whole = changes.seq, changes.is_whole
    return ""


def _is_of_the_disk(error: sqlite3.OperationalError) -> bool:
    """Whether the file may be sound all the same."""
    faults = ("FULL", "CANTOPEN", "READONLY", "BUSY", "PERM")
    return error_name(error).removeprefix("SQLITE_").startswith(faults)


def _salvaged(path: Path, sentinel: Path) -> Opened:
    """Put the damaged database aside and take the newest sound backup in its place."""
    quarantined = None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    for file in (path, path.with_name(f"{path.name}-journal")):
        if file.exists():
            aside = file.with_name(f"{file.name}.corrupt-{stamp}-{secrets.token_hex(2)}")
            file.replace(aside)
            quarantined = quarantined or aside
    lives = 1 + len(list(path.parent.glob("*.corrupt-*")))
    part = path.with_suffix(".part")
    for backup in sorted(_backups(), reverse=True):
        part.unlink(missing_ok=True)
        shutil.copyfile(backup, part)
        _migrate(part)
        if _damage(part, ""):
            continue
        with closing(Store(_connect(part))) as store:
            _catch_up(store)
            store.skip_changes(lives * CHANGES_OF_A_LIFE)
        part.replace(path)
        sentinel.write_text(_identity(path), "ascii")
        return Opened(Store(_connect(path)), quarantined=quarantined, restored_from=backup)
    identity = secrets.token_hex(16)
    _create(path, identity)
    sentinel.write_text(identity, "ascii")
    store = Store(_connect(path))
    store.skip_changes(lives * CHANGES_OF_A_LIFE)
    return Opened(store, is_new=True, quarantined=quarantined)


def _catch_up(store: Store) -> None:
    """What became since a backup of the jobs in it; those it does not have are adopted later."""
    known = store.known_ids()
    for folder in all_folders():
        spec = folder.read_spec() if folder.job_id in known else None
        if spec is None:
            continue
        take, ended = folder.read_manifest(), folder.read_ended()
        state = JobState.QUEUED if ended is None else ended.state
        store.catch_up(
            spec.id,
            request=json.dumps(spec.request, sort_keys=True, separators=(",", ":")),
            state=state if take is None else JobState.DONE,
            failure=ended.failure if ended is not None and take is None else None,
            take=take,
        )
