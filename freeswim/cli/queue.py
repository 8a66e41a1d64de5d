"""The commands that speak to the studio: `freeswim queue`, `freeswim takes` and `freeswim logs`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeswim import paths
from freeswim.cli import terminal
from freeswim.cli.delivery import add_take_export
from freeswim.cli.finding import find_job, find_take, running_studio
from freeswim.cli.options import MOST_LISTED, Asked, add_command, add_takes, at_least_one
from freeswim.errors import FreeswimError, NotFound, OutputError, RequestError

if TYPE_CHECKING:
    from freeswim.studio.client import Client, Json


# --------------------------------------------------------------------------------------- parser


def add_studio_commands(commands: Any) -> None:
    """`queue`, `takes` and `logs`."""
    text = "takes that the studio makes, one after the other"
    queue = commands.add_parser("queue", help=text, description=f"{text[0].upper()}{text[1:]}.")
    _add_queue(queue.add_subparsers(required=True, metavar="COMMAND"))

    text = "what the studio has made"
    takes = commands.add_parser("takes", help=text, description=f"{text[0].upper()}{text[1:]}.")
    _add_takes(takes.add_subparsers(required=True, metavar="COMMAND"))

    logs = add_command(commands, "logs", _logs, "what the studio, or a job's worker, wrote down")
    logs.add_argument("jobs", nargs="*", metavar="JOB", help="default: the studio's own log")
    logs.add_argument("--lines", type=at_least_one, default=100, metavar="N", help="default 100")


def _add_queue(commands: Any) -> None:
    add = commands.add_parser(
        "add",
        help="have takes made",
        description="Add the take that the command after `add` would make; starts the studio.",
    )
    add_takes(add.add_subparsers(required=True, metavar="COMMAND"), _add, for_queue=True)

    listed = add_command(commands, "list", _list, "the jobs of the queue")
    listed.add_argument("--history", action="store_true", help="all jobs, the last one first")
    listed.add_argument("--search", default="", metavar="WORDS", help="of prompt or shot")
    listed.add_argument("--limit", type=at_least_one, default=50, metavar="N", help="default 50")

    _add_jobs(add_command(commands, "show", _show, "all about a job"), least="+")

    watch = add_command(commands, "watch", _watch, "the queue as it comes along; Ctrl-C leaves")
    watch.add_argument("--until-empty", action="store_true", help="leave when no job will run")

    cancel = add_command(commands, "cancel", _cancel, "stop jobs for good")
    _add_jobs(cancel)
    cancel.add_argument("--waiting", action="store_true", help="all jobs that do not run")

    pause = add_command(commands, "pause", _pause, "stop jobs, or the queue, to go on later")
    _add_jobs(pause)
    pause.add_argument(
        "--after-current", action="store_true", help="the queue, after the jobs that run"
    )

    resume = add_command(commands, "resume", _resume, "let jobs, or the queue, go on")
    _add_jobs(resume)

    move = add_command(commands, "move", _move, "change the order of the queue")
    _add_jobs(move, least="+")
    where = move.add_mutually_exclusive_group(required=True)
    where.add_argument("--front", action="store_true", help="before all others")
    where.add_argument("--end", action="store_true", help="after all others")
    where.add_argument("--before", metavar="JOB", help="before this one")

    retry = add_command(commands, "retry", _retry, "try jobs again that failed or were cancelled")
    _add_jobs(retry, least="+")

    again = add_command(commands, "again", _again, "new jobs like these, for the same shots")
    _add_jobs(again, least="+")
    again.add_argument("--same-seed", action="store_true", help="default: a new one")

    add_command(commands, "enable", _enable, "use GPUs again that were disabled after crashes")
    add_command(commands, "clear", _clear, "forget jobs at their end; takes stay")


def _add_takes(commands: Any) -> None:
    listed = add_command(commands, "list", _list_takes, "takes, the last one first")
    listed.add_argument("--shot", default="", metavar="NAME", help="of one shot")
    listed.add_argument("--verdict", choices=("new", "approved", "rejected"), default="")
    listed.add_argument("--search", default="", metavar="WORDS", help="of prompt or shot")
    listed.add_argument("--limit", type=at_least_one, default=50, metavar="N", help="default 50")
    for name, run, text in (
        ("approve", _approve, "these are good"),
        ("reject", _reject, "these are not"),
        ("trash", _trash, "into the system's trash, with their sidecars"),
        ("open", _open, "in the system's player"),
    ):
        command = add_command(commands, name, run, text)
        command.add_argument("takes", nargs="+", metavar="TAKE", help="its file's name, or its id")
    add_take_export(commands)


def _add_jobs(command: argparse.ArgumentParser, *, least: str = "*") -> None:
    command.add_argument("jobs", nargs=least, metavar="JOB", help="its number, or its id's start")


# ------------------------------------------------------------------------------------ the queue


def _add(options: argparse.Namespace) -> None:
    asked: Asked = options.ask(options)
    if options.seeds and getattr(options, "seed", None) is not None:
        raise RequestError("--seed and --seeds cannot both be given.", hint="Leave one out.")
    from freeswim.cli.studio import submit
    from freeswim.studio.client import connect_or_start

    shot = getattr(options, "shot", "")
    client = connect_or_start()
    jobs = submit(client, asked, shot=shot, seeds=options.seeds, front=options.front)
    _say_jobs(jobs, options)


def _list(options: argparse.Namespace) -> None:
    from freeswim.cli.watch import MODES, disabled_slots, jobs_table

    client = running_studio()
    if options.history or options.search:
        limit = min(options.limit, MOST_LISTED)
        jobs = client.get("/jobs", view="history", search=options.search, limit=limit)["jobs"]
    else:
        jobs = client.get("/jobs", view="queue", limit=min(options.limit, MOST_LISTED))["jobs"]
    queue = client.get("/queue")
    if options.json:
        terminal.event("queue", **queue)
        _say_jobs(jobs, options)
        return
    progress = {job_id: client.get(f"/jobs/{job_id}")["progress"] for job_id in queue["running"]}
    if jobs:
        jobs_table(jobs, {job_id: one for job_id, one in progress.items() if one})
    counts = [f"{count} {state}" for state, count in queue["counts"].items() if count]
    left = queue["eta_seconds"]
    for words in disabled_slots(client):
        terminal.result(words)
    terminal.result(
        f"{MODES[queue['mode']]} {', '.join(counts) or 'No jobs'}."
        + (f" {terminal.clock(left)} left." if left else "")
    )


def _show(options: argparse.Namespace) -> None:
    client = running_studio()
    for text in options.jobs:
        said = client.get(f"/jobs/{find_job(client, text)['id']}")
        if options.json:
            terminal.event("job", **said["job"], progress=said["progress"])
            continue
        for name, words in _about(client, said):
            terminal.result(f"{name:<10}{terminal.plain(words)}" if name else "")


def _about(client: Client, said: Json) -> list[tuple[str, str]]:
    """All about a job, as pairs of a name and words."""
    from freeswim.cli.watch import stage_words, state_words

    job, progress = said["job"], said["progress"]
    request, failure = job["request"], job["failure"] or {}
    state = state_words(job)
    if progress and progress["stage"]:
        state += f": {stage_words(progress)}"
    if said["eta_seconds"] is not None and job["state"] in ("queued", "running"):
        state += f", {terminal.clock(said['eta_seconds'])} left"
    takes = client.get(f"/shots/{job['shot_id']}")["takes"]
    draft = ", draft" if request["draft"] else ""
    lines = [
        ("job", f"{job['number']} ({job['id']})"),
        ("shot", job["shot_name"]),
        ("state", state),
        ("hint", failure.get("hint", "")),
        ("prompt", job["prompt"]),
        (
            "take",
            f"{request['width']}x{request['height']}, {request['frames']} frames, "
            f"seed {request['seed']}{draft}",
        ),
        ("model", request["checkpoint"]),
        ("added", terminal.time_of_day(job["created_at"])),
        ("begun", terminal.time_of_day(job["started_at"])),
        ("ended", terminal.time_of_day(job["ended_at"])),
        *(("file", take["file"]) for take in takes if take["job_id"] == job["id"]),
    ]
    return [(name, words) for name, words in lines if words]


def _watch(options: argparse.Namespace) -> None:
    from freeswim.cli.watch import watch

    watch(running_studio(), until_empty=options.until_empty, as_json=options.json)


def _cancel(options: argparse.Namespace) -> None:
    if bool(options.jobs) == options.waiting:
        raise RequestError("Say which jobs.", hint="Name them, or give --waiting for all of them.")
    if not options.waiting:
        _act("cancel", options)
        return
    _say_count(running_studio().post("/jobs/cancel")["count"], "cancelled", options)


def _pause(options: argparse.Namespace) -> None:
    if options.jobs and options.after_current:
        raise RequestError("--after-current is for the whole queue.", hint="Name no job.")
    if options.jobs:
        _act("pause", options)
    else:
        _set_mode("stop_after" if options.after_current else "pause", options)


def _resume(options: argparse.Namespace) -> None:
    if options.jobs:
        _act("resume", options)
    else:
        _set_mode("run", options)


def _retry(options: argparse.Namespace) -> None:
    _act("retry", options)


def _again(options: argparse.Namespace) -> None:
    _act("again", options, {"new_seed": not options.same_seed})


def _move(options: argparse.Namespace) -> None:
    client = running_studio()
    where = (
        {"before": find_job(client, options.before)["id"]}
        if options.before
        else {"to": "front" if options.front else "end"}
    )
    ids = [find_job(client, text)["id"] for text in options.jobs]
    _say_jobs(client.post("/jobs/move", {"ids": ids, **where})["jobs"], options)


def _enable(options: argparse.Namespace) -> None:
    client = running_studio()
    slots = client.get("/machine")["slots"]
    names = [slot["name"] for slot in slots if slot["state"] == "disabled"]
    for name in names:
        client.post(f"/machine/slots/{urllib.parse.quote(name, safe='')}/enable")
    if options.json:
        terminal.event("enabled", slots=names)
    else:
        terminal.result(f"{', '.join(names)}: in use again." if names else "None was disabled.")


def _clear(options: argparse.Namespace) -> None:
    _say_count(running_studio().post("/jobs/clear")["count"], "cleared", options)


def _act(name: str, options: argparse.Namespace, body: Mapping[str, Any] | None = None) -> None:
    """One action on each of the jobs that were named; all of them are looked for first."""
    client = running_studio()
    jobs = [find_job(client, text) for text in options.jobs]
    _say_jobs([client.post(f"/jobs/{job['id']}/{name}", body) for job in jobs], options)


def _set_mode(mode: str, options: argparse.Namespace) -> None:
    from freeswim.cli.watch import MODES

    queue = running_studio().patch("/queue", {"mode": mode})
    if options.json:
        terminal.event("queue", **queue)
    else:
        terminal.result(MODES[queue["mode"]])


def _say_jobs(jobs: Sequence[Json], options: argparse.Namespace) -> None:
    from freeswim.cli.watch import state_words

    for job in jobs:
        if options.json:
            terminal.event("job", **job)
        else:
            shot, seed = terminal.plain(job["shot_name"]), job["request"]["seed"]
            terminal.result(f"Job {job['number']}: {shot}, seed {seed}, {state_words(job)}")


def _say_count(count: int, done: str, options: argparse.Namespace) -> None:
    if options.json:
        terminal.event("count", count=count)
    else:
        terminal.result(f"{count} job{'' if count == 1 else 's'} {done}.")


# ----------------------------------------------------------------------------------------- takes


def _list_takes(options: argparse.Namespace) -> None:
    from freeswim.cli.studio import find_shots

    client = running_studio()
    query = {
        "verdict": options.verdict,
        "search": options.search,
        "limit": min(options.limit, MOST_LISTED),
    }
    if options.shot:
        shots = find_shots(client, options.shot)
        if not shots:
            raise NotFound(f"There is no shot {options.shot}.", hint="See: freeswim takes list.")
        takes = [
            take
            for shot in shots
            for take in client.get("/takes", shot=shot["id"], **query)["takes"]
        ]
    else:
        takes = client.get("/takes", **query)["takes"]
    if options.json:
        _say_takes(takes, options)
        return
    rows = [
        [
            take["file"],
            take["shot_name"],
            f"{take['width']}x{take['height']}",
            str(take["frames"]),
            take["frame_rate"],
            str(take["seed"]),
            take["verdict"],
            terminal.time_of_day(take["created_at"]),
        ]
        for take in takes
    ]
    if rows:
        headings = ["take", "shot", "size", "frames", "fps", "seed", "verdict", "made"]
        terminal.table(headings, rows, words=("shot", "verdict"))
    terminal.result(f"{len(takes)} take{'' if len(takes) == 1 else 's'}.")


def _approve(options: argparse.Namespace) -> None:
    _judge("approved", options)


def _reject(options: argparse.Namespace) -> None:
    _judge("rejected", options)


def _trash(options: argparse.Namespace) -> None:
    client = running_studio()
    takes = [find_take(client, text) for text in options.takes]
    _say_takes([client.post(f"/takes/{take['id']}/trash") for take in takes], options)


def _judge(verdict: str, options: argparse.Namespace) -> None:
    client = running_studio()
    takes = [find_take(client, text) for text in options.takes]
    said = [client.patch(f"/takes/{take['id']}", {"verdict": verdict}) for take in takes]
    _say_takes(said, options)


def _say_takes(takes: Sequence[Json], options: argparse.Namespace) -> None:
    for take in takes:
        if options.json:
            terminal.event("take", **take)
        else:
            terminal.result(f"{take['file']}: {take['verdict']}")


def _open(options: argparse.Namespace) -> None:
    client = running_studio()
    for take in [find_take(client, text) for text in options.takes]:
        path = Path(client.get(f"/takes/{take['id']}")["path"])
        _open_file(path)
        if options.json:
            terminal.event("take", **take, media=str(path))
        else:
            terminal.result(str(path))


def _open_file(path: Path) -> None:
    """In the program that the system has for it."""
    if not path.is_file():
        raise OutputError(f"{path.name} is not in the takes folder any more.", hint=f"{path}")
    if sys.platform == "win32":
        os.startfile(path)
        return
    name = "open" if sys.platform == "darwin" else "xdg-open"
    program = shutil.which(name)
    if program is None:
        raise FreeswimError(f"This system has no {name}.", hint=f"Open it in a player: {path}.")
    done = subprocess.run([program, str(path)], stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        raise FreeswimError(
            f"{name} cannot open {path.name}.", hint=f"Open it in a player: {path}."
        )


def _logs(options: argparse.Namespace) -> None:
    if options.jobs:
        client = running_studio()
        texts = [
            client.get(f"/jobs/{find_job(client, text)['id']}/log")["text"] for text in options.jobs
        ]
    else:
        path = paths.logs() / "studio.log"
        try:
            texts = [path.read_text("utf-8", errors="replace")]
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror}.") from error
    for text in texts:
        lines = [terminal.plain(line) for line in text.splitlines()[-options.lines :]]
        if options.json:
            terminal.event("log", lines=lines)
            continue
        for line in lines:
            terminal.result(line)
