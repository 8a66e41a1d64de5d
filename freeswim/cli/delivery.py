"""The commands by which takes leave: `export`, `takes export`, `convert`, `verify`, `import`."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeswim.cli import terminal
from freeswim.cli.options import MOST_LISTED, add_command
from freeswim.errors import MediaError, RequestError

if TYPE_CHECKING:
    from freeswim.studio.client import Client
    from freeswim.timeline.delivery import OnStage, ShotFiles, TakeFile
    from freeswim.timeline.reuse import KnownTake, Step

EDITOR_NAMES = "resolve, premiere, final-cut, kdenlive, shotcut, avid, blender, archive"


def add_delivery_commands(commands: Any) -> None:
    """`export`, `convert`, `verify`, `import`."""
    export = add_command(commands, "export", _export, "a folder that an editor opens")
    export.add_argument(
        "what",
        nargs="*",
        metavar="SHOT|FILE",
        help="shots of the studio, in the cut's order, or files of takes; default: all shots "
        "with an approved take",
    )
    export.add_argument(
        "--for", dest="editor", required=True, metavar="EDITOR", help=f"one of {EDITOR_NAMES}"
    )
    export.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    export.add_argument("--project", default="FreeSwim", metavar="NAME")
    _add_master(export)
    export.add_argument("--handles", type=_count, default=0, metavar="N", help="frames; default 0")
    export.add_argument(
        "--start", default="01:00:00:00", metavar="TC", help="of the timeline; default 01:00:00:00"
    )
    export.add_argument(
        "--takes",
        choices=("keys", "tracks", "none"),
        default="keys",
        help="other approved takes: beside the clip (keys), as disabled clips over it, or not",
    )
    export.add_argument("--proxies", action="store_true", help="small copies as well")
    export.add_argument("--native", action="store_true", help="the takes as they are as well")

    convert = add_command(commands, "convert", _convert, "a clip as an edit master")
    convert.add_argument("file", type=Path, metavar="FILE", help="any video file")
    convert.add_argument("--out", type=Path, metavar="FILE", help="default: beside it")
    _add_master(convert)
    convert.add_argument("--frames", type=_count, metavar="N", help="exactly so many")

    verify = add_command(commands, "verify", _verify, "look at every file of an export again")
    verify.add_argument("folder", type=Path, metavar="EXPORT")

    read = add_command(commands, "import", _import, "what a cut made elsewhere needs")
    read.add_argument("timeline", type=Path, metavar="TIMELINE", help=".otio, .xml, .fcpxml, .edl")
    read.add_argument("--plan", action="store_true", help="say it only; add no jobs")
    read.add_argument("--rate", type=_rate, metavar="R", help="of an EDL: 24, 23.976, 30000/1001")
    read.add_argument("--handles", type=_count, default=0, metavar="N", help="frames; default 0")


def add_take_export(commands: Any) -> None:
    """`takes export`."""
    export = add_command(commands, "export", _export_takes, "as edit masters, in a folder")
    export.add_argument("takes", nargs="+", metavar="TAKE", help="its file's name, or its id")
    export.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    _add_master(export)


def _add_master(command: argparse.ArgumentParser) -> None:
    command.add_argument("--codec", default="", metavar="NAME", help="see the README's table")
    command.add_argument("--rate", type=_rate, metavar="R", help="24, 23.976, 25, 30000/1001 ...")
    command.add_argument(
        "--way",
        choices=("nearest", "blend", "interpolate"),
        default="interpolate",
        help="from one rate to another; default interpolate",
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def _rate(text: str) -> Fraction:
    """23.976 and 23.98 mean 24000/1001."""
    from freeswim.timeline.reading import exact_rate

    try:
        return Fraction(text) if "/" in text else exact_rate(float(text))
    except (ValueError, ZeroDivisionError, MediaError) as error:
        raise argparse.ArgumentTypeError(f"{text} is no frame rate") from error


# ---------------------------------------------------------------------------------------- export


def _export(options: argparse.Namespace) -> None:
    from freeswim.timeline.delivery import Wanted, deliver
    from freeswim.timeline.editors import find_editor

    wanted = Wanted(
        project=options.project,
        editor=find_editor(options.editor),
        rate=options.rate,
        codec=options.codec,
        way=options.way,
        handles=options.handles,
        start=options.start,
        takes_as=options.takes,
        with_proxies=options.proxies,
        with_native=options.native,
    )
    shots = _shots(options.what)
    with _progress(as_json=options.json) as on_stage:
        made = deliver(shots, wanted, options.out.expanduser().absolute(), on_stage=on_stage)
    if options.json:
        terminal.event(
            "export",
            folder=str(made.folder),
            timelines=[str(path) for path in made.timelines],
            frames=made.num_frames,
            notes=made.notes,
        )
        return
    for note in made.notes:
        terminal.note(f"Note: {note}")
    for path in made.timelines:
        terminal.result(str(path))
    terminal.result(f"{made.folder}: README.txt says how to open it.")


def _shots(what: Sequence[str]) -> list[ShotFiles]:
    """The shots that were named, or all that have an approved take."""
    from freeswim.timeline.delivery import ShotFiles

    if what and all(Path(one).is_file() for one in what):
        return [ShotFiles(Path(one).stem, _local_take(Path(one))) for one in what]
    client = _studio()
    rows = client.get("/takes", verdict="approved", limit=MOST_LISTED)["takes"]
    by_shot: dict[str, list[Any]] = {}
    for row in sorted(rows, key=lambda row: row["number"], reverse=True):
        by_shot.setdefault(row["shot_id"], []).append(row)
    order = [shot for shot in client.get("/shots")["shots"] if shot["id"] in by_shot]
    if what:
        named = {name: [shot for shot in order if shot["name"] == name] for name in what}
        for name, found in named.items():
            if not found:
                raise RequestError(
                    f"There is no approved take of {name}.", hint="See: freeswim takes list."
                )
        order = [shot for name in what for shot in named[name]]
    return [
        ShotFiles(
            shot["name"],
            _take(client, by_shot[shot["id"]][0]),
            tuple(_take(client, row) for row in by_shot[shot["id"]][1:]),
        )
        for shot in order
    ]


def _take(client: Client, row: dict[str, Any]) -> TakeFile:
    from freeswim.timeline.delivery import TakeFile

    said = client.get(f"/takes/{row['id']}")
    return TakeFile(Path(said["path"]), row["number"], row["job_id"], said["sidecar"])


def _local_take(path: Path) -> TakeFile:
    from freeswim.sidecar import read_sidecar
    from freeswim.timeline.delivery import TakeFile

    path = path.absolute().with_suffix(".mp4")
    sidecar = read_sidecar(path)
    # It was made by no job; the same file gets the same name in every export.
    name = f"{path.name} {sidecar['media']['sha256']}"
    return TakeFile(path, 1, hashlib.sha256(name.encode()).hexdigest()[:16], sidecar)


def _export_takes(options: argparse.Namespace) -> None:
    from freeswim.cli.finding import find_take
    from freeswim.timeline.master import make_master
    from freeswim.video.codecs import find_codec

    client = _studio()
    codec = find_codec(options.codec or "prores-hq")
    folder = options.out.expanduser().absolute()
    takes = [_take(client, find_take(client, text)) for text in options.takes]
    for take in takes:
        target = folder / f"{take.path.stem}{codec.extension}"
        clip = take.request.clip
        with _progress(as_json=options.json) as on_stage:
            master = make_master(
                take.path,
                target,
                codec=codec.name,
                rate=options.rate,
                way=options.way,
                comes_from=None if clip is None else clip.path,
                comes_from_frame=take.request.clip_start,
                on_frame=lambda done, of, name=target.name: on_stage(name, done, of),
            )
        _say_master(master.path, options)


def _convert(options: argparse.Namespace) -> None:
    from freeswim.timeline.master import make_master
    from freeswim.video.codecs import find_codec

    codec = find_codec(options.codec or "prores-hq")
    source = options.file.expanduser().absolute()
    target = options.out or source.with_name(f"{source.stem}_{codec.name}{codec.extension}")
    target = target.expanduser().absolute()
    with _progress(as_json=options.json) as on_stage:
        master = make_master(
            source,
            target,
            codec=codec.name,
            rate=options.rate,
            num_frames=options.frames,
            way=options.way,
            comes_from=source,
            on_frame=lambda done, of: on_stage(target.name, done, of),
        )
    _say_master(master.path, options)


def _say_master(path: Path, options: argparse.Namespace) -> None:
    if options.json:
        terminal.event("master", file=str(path))
    else:
        terminal.result(str(path))


@contextmanager
def _progress(*, as_json: bool) -> Generator[OnStage]:
    """Files one after the other, as stages."""
    began = time.monotonic()
    with terminal.shown_progress(as_json=as_json) as on_progress:
        begun: set[str] = set()

        def on_stage(name: str, done: int, of: int) -> None:
            seconds = time.monotonic() - began
            if name not in begun:
                begun.add(name)
                on_progress(terminal.Stage(name, 0, of, seconds))
            on_progress(terminal.Stage(name, done, of, seconds))

        yield on_stage


# ---------------------------------------------------------------------------------------- verify


def _verify(options: argparse.Namespace) -> None:
    from freeswim.timeline.verify import verify

    findings = verify(options.folder.expanduser().absolute())
    bad = [finding for finding in findings if not finding.is_good]
    for finding in findings:
        if options.json:
            terminal.event("finding", file=finding.file, what=finding.what, problem=finding.problem)
        elif not finding.is_good or finding.what != "file":
            terminal.verdict(finding.is_good, f"{finding.what} {finding.file}", finding.problem)
    if bad:
        raise MediaError(
            f"{len(bad)} of {len(findings)} checks failed.", hint="Export the project again."
        )
    if not options.json:
        terminal.result(f"All {len(findings)} checks are good.")


# ---------------------------------------------------------------------------------------- import


def _import(options: argparse.Namespace) -> None:
    from freeswim.timeline.reading import read_untrusted
    from freeswim.timeline.reuse import steps_for

    read = read_untrusted(options.timeline.expanduser().absolute(), options.rate)
    client = _studio()
    steps = steps_for(read, _known_takes(client), handles=options.handles)
    for step in steps:
        _say_step(step, options)
    for note in read.notes:
        terminal.note(f"Note: {note}")
    if options.plan:
        return
    jobs = [job for step in _without_repetition(steps) if (job := _queue(client, step))]
    if options.json:
        for job in jobs:
            terminal.event("job", **job)
    else:
        terminal.result(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'} added.")


def _say_step(step: Step, options: argparse.Namespace) -> None:
    if options.json:
        terminal.event(
            "clip",
            file=step.used.file,
            track=step.used.track,
            start=step.used.start,
            frames=step.used.num_frames,
            what=step.what,
            take=step.take.file if step.take else "",
            first=step.first,
            end=step.end,
            missing_head=step.missing_head,
            missing_tail=step.missing_tail,
        )
    else:
        terminal.result(f"{terminal.plain(step.used.file)}: {step.words}")


def _without_repetition(steps: Sequence[Step]) -> list[Step]:
    """Of a take that the cut uses several times, the step that makes the most of it."""
    best: dict[str, Step] = {}
    for step in steps:
        if step.take is None or step.what not in ("finish", "extend"):
            continue
        other = best.get(step.take.take_id)
        if other is None or _frames(step) > _frames(other):
            best[step.take.take_id] = step
    return list(best.values())


def _frames(step: Step) -> int:
    return step.missing_head + step.missing_tail


def _queue(client: Client, step: Step) -> dict[str, Any] | None:
    assert step.take is not None
    if step.what == "finish":
        return client.post(f"/takes/{step.take.take_id}/finish", {"request": {}})
    submission = {"shot_id": step.take.shot_id, "request": dict(step.request or {})}
    return client.submit(submission)[0]


def _known_takes(client: Client) -> list[KnownTake]:
    from freeswim.timeline.reuse import KnownTake

    known: list[KnownTake] = []
    for row in client.get("/takes", limit=MOST_LISTED)["takes"]:
        job = client.get(f"/jobs/{row['job_id']}")["job"]
        known.append(
            KnownTake(
                take_id=row["id"],
                job_id=row["job_id"],
                shot_id=row["shot_id"],
                file=row["file"],
                num_frames=row["frames"],
                frame_rate=Fraction(row["frame_rate"]),
                is_draft=row["is_draft"],
                request=job["request"],
            )
        )
    return known


def _studio() -> Client:
    from freeswim.studio.client import connect_or_start

    return connect_or_start()
