"""The HTTP API: each route hands what it is asked to one method of the studio.

All handlers are coroutines and none waits for a disk. Errors are `{code, message, hint, details}`,
never a traceback, a path or what was sent. Lists and changes are derived from rows, so a client
that missed an event asks again and has missed nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from freeswim import __version__, paths
from freeswim.errors import (
    Cancelled,
    CheckpointCorrupt,
    CheckpointMissing,
    Conflict,
    DiskFull,
    FreeswimError,
    MediaError,
    NotFound,
    OutOfMemory,
    OutputError,
    StudioError,
)
from freeswim.models.catalog import CATALOG
from freeswim.models.download import is_installed
from freeswim.presets import load_preset, preset_names
from freeswim.studio.discovery import API, proof
from freeswim.studio.downloads import ModelsNow
from freeswim.studio.files import media_response, read_if_there, sidecar_of
from freeswim.studio.folders import JobFolder
from freeswim.studio.guard import App, Guard
from freeswim.studio.job import Job, Shot, Take, Verdict
from freeswim.studio.resolve.links import Answer, Next, Registration
from freeswim.studio.resolve.placer import ResolveNow, VerbSaid
from freeswim.studio.resolve.planner import ResolveSettings
from freeswim.studio.store import MOST_ROWS
from freeswim.studio.studio import Studio, Submission
from freeswim.studio.wire import (
    Adoption,
    Again,
    Asked,
    Beat,
    Bye,
    Catalog,
    ChangesNow,
    CheckpointSaid,
    Count,
    Error,
    Forecast,
    Hello,
    JobNow,
    Jobs,
    LogEnd,
    MachineNow,
    Move,
    NewMode,
    NewVerdict,
    Nothing,
    Poll,
    Presets,
    PresetSaid,
    QueueNow,
    RequestChanges,
    Shots,
    ShotWithTakes,
    Takes,
    TakeWithFile,
    ToClear,
    VerbAsked,
)

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 25.0
BEAT_S = 15.0  # between signs of life of an event stream
PROGRESS_S = 0.25  # between two of an event stream
LOG_BYTES = 64 * 1024  # of a log's end
MOST_WORDS = 1000  # characters of an error's message; it may repeat what was asked for

STATUS: dict[type[FreeswimError], int] = {
    NotFound: 404,
    Conflict: 409,
    DiskFull: 507,
    OutputError: 503,
    StudioError: 503,
    CheckpointMissing: 422,
    CheckpointCorrupt: 422,
    MediaError: 422,
    OutOfMemory: 422,
    Cancelled: 409,
}

Id = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]
Search = Annotated[str, Query(max_length=200)]
ModelName = Annotated[str, InPath(pattern=r"^[a-z0-9.-]{1,64}$")]


Empty = Annotated[Nothing | None, Body()]


def create_app(studio: Studio, *, token: str, port: int, on_stop: Callable[[], None]) -> App:
    """The API behind its guard.

    Args:
        token: what clients show.
        port: that it is served at; no other is answered for.
        on_stop: called when a client asks the studio to stop.
    """
    return Guard(
        create_routes(studio, token=token, port=port, on_stop=on_stop), token=token, port=port
    )


def create_routes(studio: Studio, *, token: str, port: int, on_stop: Callable[[], None]) -> FastAPI:
    """The routes alone; only ever to be served behind the guard."""
    refusals: dict[int | str, dict[str, Any]] = {
        "default": {"model": Error, "description": "It was not done; why, and what to do."}
    }
    app = FastAPI(
        title="FreeSwim studio",
        version=f"{API}",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses=refusals,
    )
    _add_errors(app)
    _add_studio(app, studio, token, port, on_stop)
    _add_jobs(app, studio)
    _add_job(app, studio)
    _add_takes(app, studio)
    _add_library(app, studio)
    _add_models(app, studio)
    _add_resolve(app, studio)
    _add_events(app, studio)
    return app


# -------------------------------------------------------------------------------------- routes


def _add_studio(
    app: FastAPI, studio: Studio, token: str, port: int, on_stop: Callable[[], None]
) -> None:
    @app.get("/v1/hello")
    async def hello(
        nonce: Annotated[str, Query(pattern=r"^[0-9A-Za-z_-]{16,128}$")],
    ) -> Hello:
        """Who answers; the proof shows that it is the studio of this data folder."""
        return Hello(
            api=API,
            version=__version__,
            pid=os.getpid(),
            proof=proof(token, "studio", nonce, port),
        )

    @app.post("/v1/stop", status_code=202)
    async def stop(_: Empty = None) -> dict[str, str]:
        """Stop the studio: jobs that run are queued again and go on with its next start."""
        on_stop()
        return {}

    @app.get("/v1/queue")
    async def queue() -> QueueNow:
        """The queue as a whole."""
        return await _queue_now(studio)

    @app.patch("/v1/queue")
    async def set_mode(asked: NewMode) -> QueueNow:
        """Run the queue, stop it after the jobs that run, or at once."""
        await studio.set_mode(asked.mode)
        return await _queue_now(studio)


async def _queue_now(studio: Studio) -> QueueNow:
    now, etas = await studio.ask(lambda store: store.queue()), await studio.etas()
    return QueueNow(**now.model_dump(), eta_seconds=etas["queue"], running=sorted(studio.progress))


def _add_jobs(app: FastAPI, studio: Studio) -> None:
    @app.post("/v1/jobs", status_code=201, responses={200: {"model": Jobs}})
    async def add_jobs(submission: Submission, response: Response) -> Jobs:
        """Add jobs for a shot; with a key that was used before nothing is added."""
        jobs, is_new = await studio.submit(submission)
        response.status_code = 201 if is_new else 200
        return Jobs(jobs=jobs)

    @app.get("/v1/jobs")
    async def jobs(
        view: Literal["queue", "history"] = "queue",
        search: Search = "",
        after: Annotated[str, Query(pattern=r"^([0-9a-f]{16})?$")] = "",
        before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        limit: Limit = 200,
    ) -> Jobs:
        """Jobs in the queue's order, or all of them, the last one first."""
        if view == "queue":
            return Jobs(jobs=await studio.ask(lambda store: store.queued(after=after, limit=limit)))
        return Jobs(
            jobs=await studio.ask(
                lambda store: store.history(search=search, before=before, limit=limit)
            )
        )

    @app.post("/v1/jobs/cancel")
    async def cancel_waiting(_: Empty = None) -> Count:
        """Cancel every job of the queue that does not run."""
        return Count(count=await studio.cancel_waiting())

    @app.post("/v1/jobs/clear")
    async def clear(asked: ToClear) -> Count:
        """Take jobs at their end out of the history, all where none are named; takes stay."""
        return Count(count=await studio.change(lambda store: store.clear(asked.ids)))

    @app.post("/v1/jobs/move")
    async def move(asked: Move) -> Jobs:
        """Put jobs at the queue's front or end, or before another."""
        ids = list(dict.fromkeys(asked.ids))
        return Jobs(
            jobs=await studio.change(
                lambda store: store.move(ids, to=asked.to, before=asked.before)
            )
        )


def _add_job(app: FastAPI, studio: Studio) -> None:
    @app.get("/v1/jobs/{job_id}")
    async def job(job_id: Id) -> JobNow:
        """A job, how far it is, and how long it will take."""
        found = await studio.ask(lambda store: store.job(job_id))
        etas = await studio.etas()
        return JobNow(
            job=found, progress=studio.progress.get(job_id), eta_seconds=etas["jobs"].get(job_id)
        )

    @app.patch("/v1/jobs/{job_id}")
    async def edit(job_id: Id, asked: RequestChanges) -> Job:
        """Change the request of a job that does not run."""
        return await studio.edit(job_id, asked.request)

    def add_action(name: str, act: Callable[[str], Awaitable[Job]]) -> None:
        async def action(job_id: Id, _: Empty = None) -> Job:
            return await act(job_id)

        action.__doc__ = act.__doc__
        app.post(f"/v1/jobs/{{job_id}}/{name}", name=name)(action)

    add_action("cancel", studio.cancel)
    add_action("pause", studio.pause)
    add_action("resume", studio.resume)
    add_action("retry", studio.retry)

    @app.post("/v1/jobs/{job_id}/again", status_code=201)
    async def again(job_id: Id, asked: Again) -> Job:
        """A new job like one that was."""
        return await studio.again(job_id, new_seed=asked.new_seed)

    @app.get(
        "/v1/jobs/{job_id}/preview.jpg",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}},
    )
    async def preview(job_id: Id) -> Response:
        """How the take looks by now."""
        await studio.ask(lambda store: store.job(job_id))
        content = await asyncio.to_thread(read_if_there, JobFolder(job_id).preview)
        if content is None:
            raise NotFound("There is no preview yet.")
        return Response(content, media_type="image/jpeg")

    @app.get("/v1/jobs/{job_id}/log")
    async def job_log(job_id: Id) -> LogEnd:
        """The end of what the job's worker said."""
        await studio.ask(lambda store: store.job(job_id))
        content = await asyncio.to_thread(read_if_there, JobFolder(job_id).log) or b""
        return LogEnd(text=content[-LOG_BYTES:].decode("utf-8", errors="replace"))


def _add_takes(app: FastAPI, studio: Studio) -> None:
    @app.get("/v1/shots")
    async def shots() -> Shots:
        """All shots."""
        return Shots(shots=await studio.ask(lambda store: store.shots()))

    @app.get("/v1/shots/{shot_id}")
    async def shot(shot_id: Id) -> ShotWithTakes:
        """A shot and its takes."""
        found = await studio.ask(lambda store: store.shot(shot_id))
        takes = await studio.ask(lambda store: store.takes(shot_id=shot_id))
        return ShotWithTakes(shot=found, takes=takes)

    @app.get("/v1/takes")
    async def takes(
        shot: Annotated[str, Query(pattern=r"^([0-9a-f]{16})?$")] = "",
        verdict: Verdict | None = None,
        search: Search = "",
        limit: Limit = MOST_ROWS,
    ) -> Takes:
        """Takes, the last one first; those in the trash only where asked for."""
        return Takes(
            takes=await studio.ask(
                lambda store: store.takes(shot_id=shot, verdict=verdict, search=search, limit=limit)
            )
        )

    @app.get("/v1/takes/{take_id}")
    async def take(take_id: Id) -> TakeWithFile:
        """A take, where its file is, and what its sidecar says."""
        found = await studio.ask(lambda store: store.take(take_id))
        media = paths.takes() / found.file
        sidecar = await asyncio.to_thread(sidecar_of, media)
        return TakeWithFile(take=found, path=str(media), sidecar=sidecar)

    @app.patch("/v1/takes/{take_id}")
    async def judge(take_id: Id, asked: NewVerdict) -> Take:
        """Approve or reject a take."""
        return await studio.change(lambda store: store.judge(take_id, Verdict(asked.verdict)))

    @app.post("/v1/takes/{take_id}/trash")
    async def trash(take_id: Id, _: Empty = None) -> Take:
        """Move a take's files to the system's trash."""
        return await studio.trash(take_id)

    @app.post("/v1/takes/{take_id}/finish", status_code=201)
    async def finish(take_id: Id, asked: RequestChanges) -> Job:
        """A draft carried on to its full size."""
        return await studio.finish(take_id, asked.request)

    @app.get(
        "/v1/takes/{take_id}/media",
        response_class=Response,
        responses={
            200: {"content": {"video/mp4": {}}},
            206: {"content": {"video/mp4": {}}, "description": "The range."},
        },
    )
    async def media(
        take_id: Id, asked: Annotated[str, Header(alias="range", max_length=1000)] = ""
    ) -> Response:
        """The video file, or one range of it."""
        found = await studio.ask(lambda store: store.take(take_id))
        return await asyncio.to_thread(media_response, paths.takes() / found.file, asked)


def _add_library(app: FastAPI, studio: Studio) -> None:
    @app.get("/v1/presets")
    async def presets() -> Presets:
        """Named defaults for requests."""

        def load() -> list[PresetSaid]:
            return [PresetSaid(**vars(load_preset(name))) for name in preset_names()]

        return Presets(presets=await asyncio.to_thread(load))

    @app.get("/v1/catalog")
    async def catalog() -> Catalog:
        """The checkpoints that requests can name."""

        def look() -> list[CheckpointSaid]:
            return [
                CheckpointSaid(
                    name=one.name,
                    title=one.title,
                    licence=one.licence,
                    native_width=one.native_width,
                    native_height=one.native_height,
                    frame_rate=str(one.frame_rate),
                    takes_text=one.takes_text,
                    takes_image=one.takes_image,
                    is_installed=is_installed(one),
                )
                for one in CATALOG
            ]

        return Catalog(checkpoints=await asyncio.to_thread(look))

    @app.post("/v1/plan")
    async def plan(asked: Asked) -> Forecast:
        """What a request would take on this machine as it is now."""
        return Forecast(**await studio.plan(asked.preset, asked.request))

    @app.get("/v1/machine")
    async def machine() -> MachineNow:
        """What takes are made on."""
        return MachineNow.model_validate(await studio.machine())

    @app.post("/v1/machine/slots/{name}/enable")
    async def enable(name: Annotated[str, InPath(max_length=100)], _: Empty = None) -> MachineNow:
        """Use a slot again that was disabled."""
        studio.enable_slot(name)
        return MachineNow.model_validate(await studio.machine())


def _add_models(app: FastAPI, studio: Studio) -> None:
    async def now() -> ModelsNow:
        return await asyncio.to_thread(studio.downloads.look)

    @app.get("/v1/models")
    async def models() -> ModelsNow:
        """The checkpoints, how far each is on its way here, and the disk they are on."""
        return await now()

    @app.post("/v1/models/{name}/download")
    async def download(name: ModelName, _: Empty = None) -> ModelsNow:
        """Fetch a checkpoint, go on with it, or repair it."""
        await asyncio.to_thread(studio.downloads.download, name)
        return await now()

    @app.post("/v1/models/{name}/pause")
    async def pause(name: ModelName, _: Empty = None) -> ModelsNow:
        """Stop what is done to a checkpoint; what came so far is kept."""
        await asyncio.to_thread(studio.downloads.pause, name)
        return await now()

    @app.post("/v1/models/{name}/verify")
    async def verify(name: ModelName, _: Empty = None) -> ModelsNow:
        """Compare an installed checkpoint to its checksums."""
        await asyncio.to_thread(studio.downloads.verify, name)
        return await now()

    @app.post("/v1/models/{name}/delete")
    async def delete(name: ModelName, _: Empty = None) -> ModelsNow:
        """Remove a checkpoint, or what came of it so far."""
        await studio.delete_model(name)
        return await now()

    @app.post("/v1/models/adopt")
    async def adopt(asked: Adoption) -> ModelsNow:
        """Verify the checkpoints in a folder of this machine, and link or copy them."""
        await asyncio.to_thread(studio.downloads.adopt, Path(asked.folder))
        return await now()


def _add_resolve(app: FastAPI, studio: Studio) -> None:
    _add_executors(app, studio)

    @app.get("/v1/resolve")
    async def resolve() -> ResolveNow:
        """Who is there inside DaVinci Resolve, what waits for a prompt, what happened last."""
        return await studio.resolve.look()

    @app.patch("/v1/resolve/settings")
    async def set_settings(asked: ResolveSettings) -> ResolveNow:
        """Change how shots are made that are asked for inside Resolve; what is left out stays."""
        await studio.resolve.change_settings(asked.model_dump(exclude_unset=True))
        return await studio.resolve.look()

    @app.post("/v1/resolve/verbs", status_code=202)
    async def begin_verb(asked: VerbAsked) -> dict[str, str]:
        """Do what a menu entry does, where the editor is now; the news say what came of it."""
        await studio.resolve.do(asked.verb, asked.key)
        return {}

    @app.post("/v1/resolve/look", status_code=202)
    async def look_inside(_: Empty = None) -> dict[str, str]:
        """Have Resolve asked where the editor is now; an event tells when that is known."""
        studio.resolve.look_inside()
        return {}

    @app.post("/v1/resolve/shots/{shot_id}/drop")
    async def drop(shot_id: Id, _: Empty = None) -> Shot:
        """Forget a shot that waits for its prompt."""
        return await studio.resolve.drop(shot_id)

    @app.post("/v1/takes/{take_id}/place")
    async def place(take_id: Id, _: Empty = None) -> Take:
        """Put a take into the timeline that its shot was asked for in, now or again."""
        return await studio.resolve.place(take_id)


def _add_executors(app: FastAPI, studio: Studio) -> None:
    """What the plugin inside Resolve says; resolve_plugin/PROTOCOL.md has the words."""

    @app.post("/v1/resolve/register")
    async def register(asked: Registration) -> Next:
        """An executor inside Resolve is there."""
        return await studio.resolve.register(asked)

    @app.post("/v1/resolve/verb")
    async def verb(asked: VerbSaid) -> Next:
        """The editor chose a menu entry; its operations are done at once."""
        return await studio.resolve.verb(asked)

    @app.post("/v1/resolve/poll")
    async def poll(asked: Poll) -> Next:
        """The next operation of an executor, or none after a while."""
        return await studio.resolve.poll(asked.session, asked.wait, asked.now)

    @app.post("/v1/resolve/answer")
    async def answer(asked: Answer) -> Next:
        """What came of an operation; the next one."""
        return await studio.resolve.answer(asked)

    @app.post("/v1/resolve/beat")
    async def beat(asked: Beat) -> dict[str, str]:
        """Resolve takes its time over an operation; most likely it shows a window."""
        studio.resolve.links.beat(asked.session, asked.busy_s)
        return {}

    @app.post("/v1/resolve/bye")
    async def bye(asked: Bye) -> dict[str, str]:
        """An executor ends."""
        studio.resolve.links.bye(asked.session)
        return {}


def _add_events(app: FastAPI, studio: Studio) -> None:
    @app.get("/v1/changes")
    async def changes(
        after: Annotated[int, Query(ge=0, le=2**53)] = 0,
        wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0,
        limit: Limit = 200,
    ) -> ChangesNow:
        """What changed after a change; waits for one where there is none."""
        if wait and not studio.is_stopping:
            await studio.wait(after, wait)
        found = await studio.ask(lambda store: store.changes(after, limit))
        return ChangesNow(**found.model_dump(), progress=list(studio.progress.values()))

    @app.get(
        "/v1/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def events(
        after: Annotated[int, Query(ge=0, le=2**53)] = 0,
        last_event_id: Annotated[str, Header(max_length=20)] = "",
    ) -> StreamingResponse:
        """Changes and progress as they happen; goes on after the last event that was seen."""
        start = int(last_event_id) if last_event_id.isdecimal() else after
        return StreamingResponse(_event_stream(studio, start), media_type="text/event-stream")


async def _event_stream(studio: Studio, after: int) -> AsyncIterator[str]:
    """Server-sent events. A slow client gets fewer, never older ones: each is made when it is sent."""
    told: dict[str, int] = {}  # change of the progress of each job that was told of
    loop = asyncio.get_running_loop()
    is_first, spoke = True, loop.time()
    models, resolve = studio.downloads.change, studio.resolve.change
    while not studio.is_stopping:
        if is_first or studio.seq > after:
            found = await studio.ask(lambda store, after=after: store.changes(after, MOST_ROWS))
            after, is_first = found.seq, False
            yield f"event: changes\nid: {after}\ndata: {found.model_dump_json()}\n\n"
            spoke = loop.time()
            if not found.is_whole:
                continue
        for progress in list(studio.progress.values()):
            if told.get(progress.job_id) != progress.change:
                told[progress.job_id] = progress.change
                yield f"event: progress\ndata: {progress.model_dump_json()}\n\n"
                spoke = loop.time()
        if models != studio.downloads.change:  # said to be asked for: /v1/models
            models = studio.downloads.change
            yield f'event: models\ndata: {{"change": {models}}}\n\n'
            spoke = loop.time()
        if resolve != studio.resolve.change:  # the same: /v1/resolve
            resolve = studio.resolve.change
            yield f'event: resolve\ndata: {{"change": {resolve}}}\n\n'
            spoke = loop.time()
        if loop.time() - spoke >= BEAT_S:
            yield ": beat\n\n"
            spoke = loop.time()
        await studio.wait(after, 1.0)
        if studio.seq <= after:
            await asyncio.sleep(PROGRESS_S)


# -------------------------------------------------------------------------------------- errors


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(FreeswimError)
    async def known(_: Request, error: FreeswimError) -> Response:
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 422)
        said = error.as_dict()
        said |= {name: _cut(said[name]) for name in ("message", "hint")}
        return JSONResponse(said, status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]  # its input is not repeated: it may be no text at all
        field = ".".join(str(part) for part in first["loc"][1:])
        field = field.encode("ascii", "backslashreplace").decode()[:200]
        said = Error(
            code="bad_request",
            message=f"{field or 'The body'} is wrong: {first['type']}.",
            hint="See the API's description.",
            details={"field": field, "type": str(first["type"])},
        )
        return JSONResponse(said.model_dump(), 422)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        codes = {404: "not_found", 405: "method_not_allowed"}
        said = Error(
            code=codes.get(error.status_code, "bad_request"), message="There is no such route."
        )
        return JSONResponse(said.model_dump(), error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        log.error("%s %r", request.method, request.scope["path"], exc_info=error)
        said = Error(
            code="error",
            message="Something went wrong inside FreeSwim.",
            hint="The log says more: freeswim logs.",
        )
        return JSONResponse(said.model_dump(), 500)


def _cut(words: str) -> str:
    return words if len(words) <= MOST_WORDS else f"{words[:MOST_WORDS]}…"


def description() -> str:
    """The OpenAPI document of the API, as it is committed."""
    studio: Any = Studio  # only what its methods are is looked at
    routes = create_routes(studio, token="", port=0, on_stop=lambda: None)
    return json.dumps(routes.openapi(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":  # python -m freeswim.studio.api > docs/api.json
    sys.stdout.write(description())
