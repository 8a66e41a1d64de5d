"""The queue: what is made now, what comes next, what went wrong, and what people do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAction,
    QGuiApplication,
    QKeySequence,
)
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop import theme
from desktop.queue.details import JobDetails
from desktop.queue.model import ID, UNDER_WAY, WAITS, FinishedModel, QueueModel
from desktop.queue.notice import CONTROL, Notice
from desktop.queue.orders import Orders
from desktop.queue.row import MENU
from desktop.queue.times import Times
from desktop.queue.view import JobView
from desktop.queue.words import Titles, clock, failure_text, time_left
from desktop.studio import Changed, Studio
from freeswim.errors import FreeswimError
from freeswim.studio.job import ENDED, Job, JobState, QueueMode, Wish

MUCH_WORK_S = 120.0  # is not thrown away without asking

Index = QModelIndex | QPersistentModelIndex


class QueuePanel(QWidget):
    """The queue with all that can be done to it.

    Signals:
        take_chosen: id of the take of a job that is done, to be looked at.
        edit_requested: id of a job whose request is to be changed; one at its end is made anew.
        job_chosen: id of a job that runs, to show what it looks like by now.
    """

    take_chosen = Signal(str)
    edit_requested = Signal(str)
    job_chosen = Signal(str)

    def __init__(self, studio: Studio, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.studio = studio
        self.times = Times(studio, self)
        self.titles = Titles(studio, self)
        self.queue = QueueModel(studio, self.titles, self.times, self)
        self.finished = FinishedModel(studio, self.titles, self)
        self.list = JobView(self.queue, "Queue")
        self.finished_list = JobView(self.finished, "Finished jobs")
        self.notice = Notice()
        self.orders = Orders(studio, self.queue, self.notice, self)
        self.details: dict[str, JobDetails] = {}  # windows that are open, by job
        self._view = self.list  # that the person was in last
        self._is_lost = False
        self._make_actions()
        self._lay_out()
        self._connect()
        self._say()

    def actions_for(self) -> list[QAction | None]:
        """What a menu of the queue holds, in its order; None: a line."""
        of_rows = self._row_actions()
        return [
            *(self.pause_queue, self.stop_after, self.cancel_running, None),
            *(*of_rows, None, self.undo, None),
            *(self.cancel_waiting, self.show_finished, self.clear_finished),
        ]

    def _row_actions(self) -> list[QAction | None]:
        return [
            *(self.move_first, self.move_up, self.move_down, self.move_last, None),
            *(self.pause_job, self.edit, self.retry, self.one_more, None),
            *(self.show_details, self.copy, None, self.remove),
        ]

    # ------------------------------------------------------------------------------ how it is made

    def _make_actions(self) -> None:
        make, everywhere = self._action, Qt.ShortcutContext.WindowShortcut
        self.pause_queue = make("&Pause queue", self._toggle_queue, "Ctrl+P", context=everywhere)
        self.stop_after = make("&Stop after this job", self._toggle_stop)
        self.stop_after.setCheckable(True)
        self.stop_after.setStatusTip("Finish the job that runs, and begin no other.")
        self.cancel_running = make(
            "&Cancel running job", self._cancel_running, "Ctrl+Alt+Return", context=everywhere
        )
        self.move_first = make("Move to &front", self._move_first, "Ctrl+Home", icon="top")
        self.move_up = make("Move &up", self._move_up, "Ctrl+Up", icon="up")
        self.move_down = make("Move &down", self._move_down, "Ctrl+Down", icon="down")
        self.move_last = make("Move to &end", self._move_last, "Ctrl+End")
        self.pause_job = make("Pause &job", self._toggle_jobs, "Ctrl+J", icon="pause")
        self.edit = make("Ed&it", self._edit, "F2", icon="settings")
        self.retry = make("&Run again", self._retry, "Ctrl+R", icon="redo")
        self.one_more = make("One &more", self._one_more, "Ctrl+M", icon="add")
        self.one_more.setStatusTip("The same request with another seed, at the end of the queue.")
        self.show_details = make("De&tails", self._show_details, "Ctrl+I")
        self.copy = make("&Copy as text", self._copy, QKeySequence.StandardKey.Copy)
        self.remove = make("Remo&ve", self._remove, "Delete", icon="trash")
        self.undo = make("U&ndo", self._undo, QKeySequence.StandardKey.Undo)
        self.undo.setStatusTip("Put the jobs back that were just removed.")
        self.cancel_waiting = make("Cancel all &waiting", self._cancel_waiting)
        self.cancel_waiting.setStatusTip("The job that runs goes on.")
        self.show_finished = make("Show fini&shed", self._toggle_finished)
        self.show_finished.setCheckable(True)
        self.clear_finished = make("C&lear finished", self._clear_finished)
        self.clear_finished.setStatusTip("Takes stay where they are; failed jobs stay listed.")

    def _action(
        self,
        text: str,
        act: Callable[[], None],
        keys: str | QKeySequence.StandardKey = "",
        *,
        icon: str = "",
        context: Qt.ShortcutContext = Qt.ShortcutContext.WidgetWithChildrenShortcut,
    ) -> QAction:
        action = QAction(text, self)
        if keys:
            action.setShortcut(QKeySequence(keys))
            action.setShortcutContext(context)
        if icon:
            action.setIcon(theme.icon(icon))
        action.triggered.connect(lambda: act())
        self.addAction(action)
        return action

    def _lay_out(self) -> None:
        self.title = QLabel("<b>Queue</b>")
        self.summary = QLabel()
        self.summary.setAccessibleName("What is left")
        self.failed_link = QPushButton()
        self.failed_link.setProperty("role", "link")
        self.state_line = QFrame()
        self.state_line.setProperty("role", "notice")
        self.state_words = QLabel(wordWrap=True)
        self.resume = QPushButton("Resume")
        self.resume.setMinimumHeight(CONTROL)
        self.finished_button = QPushButton()
        self.finished_button.setProperty("role", "part")
        self.finished_button.setCheckable(True)
        self.clear_button = QPushButton("Clear")
        self.clear_button.setProperty("role", "part")
        self.clear_button.setAccessibleName("Clear finished")
        self.clear_button.setToolTip(self.clear_finished.statusTip())
        self.pause_button = _button(self.pause_queue)
        self.stop_button = _button(self.stop_after)
        self.more = QToolButton()
        self.more.setIcon(theme.icon("more"))
        self.more.setMinimumHeight(CONTROL)
        self.more.setAccessibleName("More for the queue")
        self.more.setToolTip("More for the queue")
        self.more_menu = QMenu(self)
        self.more_menu.addActions([self.cancel_running, self.cancel_waiting, self.clear_finished])

        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(8)
        column.addLayout(_row(self.title, self.summary, None, self.failed_link))
        line = _row(self.state_words, self.resume, margin=8)
        line.setStretch(0, 1)
        self.state_line.setLayout(line)
        column.addWidget(self.state_line)
        column.addWidget(self.list, 3)
        self.finished_bar = QWidget()
        self.finished_bar.setLayout(_row(self.finished_button, None, self.clear_button))
        column.addWidget(self.finished_bar)
        column.addWidget(self.finished_list, 2)
        column.addWidget(self.notice)
        column.addLayout(_row(self.pause_button, self.stop_button, None, self.more))
        self.finished_list.hide()
        self.list.setDragDropMode(QAbstractItemView.DragDropMode.DragDrop)
        self.list.setDragDropOverwriteMode(False)
        self.list.setDropIndicatorShown(True)
        self.list.setDefaultDropAction(Qt.DropAction.MoveAction)

    def _connect(self) -> None:
        for view in (self.list, self.finished_list):
            view.activated.connect(self._open)
            view.clicked_zone.connect(self._click)
            view.menu_wanted.connect(self._show_menu)
            view.focused.connect(partial(self._enter, view))
            view.selectionModel().selectionChanged.connect(self._refresh)
            view.selectionModel().currentChanged.connect(self._follow_current)
        self.queue.move_wanted.connect(self._move)
        self.failed_link.clicked.connect(self._go_to_failed)
        self.more.clicked.connect(self._show_more)
        self.resume.clicked.connect(self.pause_queue.trigger)
        self.finished_button.clicked.connect(self.show_finished.trigger)
        self.clear_button.clicked.connect(self.clear_finished.trigger)
        self.notice.closed.connect(self._leave_notice)
        self.orders.undone.connect(lambda: self._view.setFocus())
        self.orders.mode_refused.connect(self._refresh)
        self.times.ticked.connect(self._on_tick)
        self.studio.changed.connect(self._on_change)
        self.studio.connected.connect(self._on_connected)
        self.studio.lost.connect(self._on_lost)
        # What changes at once, as when the studio tells all it knows, is looked at once.
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self._say)

    # ------------------------------------------------------------------------------ what is shown

    def _on_change(self, _: Changed) -> None:
        self._soon.start()

    def _on_connected(self) -> None:
        self._is_lost = False
        self._say()

    def _on_lost(self, error: FreeswimError) -> None:
        self._is_lost = True
        self._say()
        self.state_words.setText(f"Not connected. {error.message} It is tried again.")

    def _on_tick(self) -> None:
        self.summary.setText(self._summary())
        self.list.viewport().update()  # times of the rows that are seen

    def _say(self) -> None:
        """Say how the queue is, outside its rows."""
        self.summary.setText(self._summary())
        failed = self.queue.num_failed
        self.failed_link.setText(f"{failed} failed")
        self.failed_link.setVisible(failed > 0)
        words = self._state()
        self.state_words.setText(words)
        self.state_line.setVisible(bool(words))
        self.resume.setVisible(not self._is_lost)
        self.list.empty = self._empty()
        finished = self.finished.rowCount()
        self.finished_bar.setVisible(finished > 0)
        is_open = finished > 0 and self.show_finished.isChecked()
        self.finished_list.setVisible(is_open)
        self.finished_list.setMaximumHeight(finished * self.finished_list.row_height + 1)
        self.finished_button.setText(f"Finished ({finished})")
        self.finished_button.setIcon(theme.icon("down" if is_open else "up", theme.SECONDARY))
        self.finished_button.setChecked(is_open)
        self._refresh()

    def _summary(self) -> str:
        left = self.queue.num_left
        if not left:
            return ""
        said = [f"{left} left"]
        seconds = self.times.queue_left
        if self.studio.mode == QueueMode.RUN and self.studio.is_connected and seconds is not None:
            said += [f"about {time_left(seconds)}" if seconds >= 60 else time_left(seconds)]
            said += [clock(seconds)]
        return " · ".join(said)

    def _state(self) -> str:
        if self._is_lost:
            return self.state_words.text() or "Not connected."
        running = [self.queue.job(row).shot_name for row in range(self.queue.waiting.start)]
        match self.studio.mode:
            case QueueMode.PAUSE if running:
                return f"Pausing: {running[0]} stops with this step and goes on from there."
            case QueueMode.PAUSE:
                return "Paused. Nothing is begun until the queue is resumed."
            case QueueMode.STOP_AFTER if running:
                return f"Stopping after {running[0]}."
            case QueueMode.STOP_AFTER:
                return "Stopped after the last job."
            case _:
                return ""

    def _empty(self) -> tuple[str, str]:
        if not self.studio.is_connected:
            if self._is_lost:
                return ("The queue cannot be reached", "What is in it is safe.")
            return ("Opening the queue…", "")
        if self.finished.rowCount():
            return ("All done", "Add another shot, or look at the takes.")
        return ("Nothing in the queue", "Set up a shot on the left, then choose Add to queue.")

    def _refresh(self) -> None:
        """Let be done what can be done."""
        mode, is_there = self.studio.mode, self.studio.is_connected
        self.pause_queue.setText("&Pause queue" if mode == QueueMode.RUN else "&Resume queue")
        icon = theme.icon("pause" if mode == QueueMode.RUN else "play")
        self.pause_queue.setIcon(icon)
        self.stop_after.setChecked(mode == QueueMode.STOP_AFTER)
        waiting = len(self.queue.waiting)
        self._enable(is_there, self.pause_queue)
        self._enable(is_there and mode != QueueMode.PAUSE, self.stop_after)
        self._enable(is_there and self._running() != [], self.cancel_running)
        self._enable(is_there and waiting > 0, self.cancel_waiting)
        self._enable(self.finished.rowCount() > 0, self.clear_finished, self.show_finished)
        self._enable(self.notice.can_undo, self.undo)
        self._refresh_row_actions(is_there)

    def _refresh_row_actions(self, is_there: bool) -> None:
        jobs = self._selected()
        states = {job.state for job in jobs}
        moves = (self.move_first, self.move_up, self.move_down, self.move_last)
        self._enable(is_there and bool(states & WAITS), *moves)
        is_pause = bool(states & {JobState.RUNNING, JobState.QUEUED})
        self.pause_job.setText("Pause &job" if is_pause else "Resume &job")
        self.pause_job.setIcon(theme.icon("pause" if is_pause else "play"))
        can_resume = bool(states & {JobState.PAUSED, JobState.WAITING})
        self._enable(is_there and (is_pause or can_resume), self.pause_job)
        again = {JobState.FAILED, JobState.CANCELLED}
        self.edit.setText("Ed&it and run" if states & again else "Ed&it")
        self._enable(is_there and len(jobs) == 1 and bool(states & (WAITS | again)), self.edit)
        self._enable(is_there and bool(states & again), self.retry)
        self._enable(is_there and bool(jobs), self.one_more)
        self._enable(bool(jobs), self.copy)
        self._enable(len(jobs) == 1, self.show_details)
        self.remove.setText("Cancel jo&b" if states == {JobState.RUNNING} else "Remo&ve")
        can_remove = states & ENDED or (is_there and states - {JobState.PUBLISHING})
        self._enable(bool(can_remove), self.remove)

    def _enable(self, can: bool, *actions: QAction) -> None:
        for action in actions:
            action.setEnabled(can)

    # ------------------------------------------------------------------------------- the selection

    def _selected(self) -> list[Job]:
        return [self.studio.jobs[job_id] for job_id in self._view.selected]

    def _running(self) -> list[Job]:
        """Jobs that run, those that are selected where there are such."""
        rows = range(self.queue.waiting.start)
        jobs = [job for row in rows if (job := self.queue.job(row)).state == JobState.RUNNING]
        return [job for job in self._selected() if job in jobs] or jobs[:1]

    def _enter(self, view: JobView) -> None:
        if view is not self._view:
            self._view.clearSelection()
            self._view = view
        self._refresh()

    def _leave_notice(self, has_focus: bool) -> None:
        if has_focus:
            self._view.setFocus()
        self._refresh()

    def _follow_current(self, index: Index) -> None:
        if index.isValid() and self._view.hasFocus():
            job_id = str(index.data(ID))
            if self.studio.jobs[job_id].state in UNDER_WAY:
                self.job_chosen.emit(job_id)

    def _open(self, index: Index) -> None:
        job = self.studio.jobs[index.data(ID)]
        if job.state == JobState.DONE:
            self.take_chosen.emit(job.take_id)
        elif job.state in UNDER_WAY:
            self.job_chosen.emit(job.id)
        else:
            self._open_details(job)

    def _click(self, zone: str, job_id: str) -> None:
        job = self.studio.jobs[job_id]
        match zone:
            case "menu":
                self._show_menu(self._view.viewport().mapToGlobal(self._view.place(job_id, MENU)))
            case "retry":
                self.orders.each([job_id], "retry", "Queueing")
            case "details":
                self._open_details(job)
            case "copy":
                self._copy_jobs([job])

    def _show_menu(self, at: QPoint) -> None:
        if not self._selected():
            return
        self.menu = QMenu(self)
        for action in self._row_actions():
            if action is None:
                self.menu.addSeparator()
            elif action.isEnabled():
                self.menu.addAction(action)
        self.menu.popup(at)

    def _show_more(self) -> None:
        height = self.more_menu.sizeHint().height()
        self.more_menu.popup(self.more.mapToGlobal(QPoint(0, -height)))

    def _go_to_failed(self) -> None:
        first = self.queue.ids[self.queue.num_left]
        self.list.select([first])
        self.list.scrollTo(self.list.currentIndex())
        self.list.setFocus()

    # --------------------------------------------------------------------------- the queue's order

    def _move_first(self) -> None:
        self._move_to(self.queue.waiting.start)

    def _move_up(self) -> None:
        rows = self._moving_rows()
        self._move_to(max(self.queue.waiting.start, rows[0] - 1) if rows else 0)

    def _move_down(self) -> None:
        rows = self._moving_rows()
        self._move_to(rows[-1] + 2 if rows else 0)

    def _move_last(self) -> None:
        self._move_to(self.queue.waiting.stop)

    def _moving_rows(self) -> list[int]:
        waiting = self.queue.waiting
        rows = [self.queue.row_of(job_id) for job_id in self._view.selected]
        return [row for row in rows if row is not None and row in waiting]

    def _move_to(self, row: int) -> None:
        """Move what is selected and waits before a row."""
        rows = self._moving_rows()
        is_together = bool(rows) and rows[-1] - rows[0] == len(rows) - 1
        if is_together and rows[0] <= row <= rows[-1] + 1:
            return  # where they are
        moved = [self.queue.ids[row] for row in rows]
        chosen = set(moved)
        while row in self.queue.waiting and self.queue.ids[row] in chosen:
            row += 1
        self._move(moved, self.queue.ids[row] if row in self.queue.waiting else "")

    def _move(self, job_ids: list[str], before: str) -> None:
        if job_ids:
            self.orders.move(job_ids, before)
            self.list.scrollTo(self.list.currentIndex())

    # ------------------------------------------------------------------------------- single jobs

    def _toggle_jobs(self) -> None:
        jobs = self._selected()
        to_pause = [job.id for job in jobs if job.state in (JobState.RUNNING, JobState.QUEUED)]
        held = (JobState.PAUSED, JobState.WAITING)
        to_resume = [job.id for job in jobs if job.state in held]
        if to_pause:
            self.orders.each(to_pause, "pause", "Pausing")
        else:
            self.orders.each(to_resume, "resume", "Resuming")

    def _retry(self) -> None:
        again = (JobState.FAILED, JobState.CANCELLED)
        jobs = [job.id for job in self._selected() if job.state in again]
        self.orders.each(jobs, "retry", "Queueing")

    def _one_more(self) -> None:
        for job in self._selected():
            self.orders.one_more(job)

    def _edit(self) -> None:
        self.edit_requested.emit(self._view.selected[0])

    def _show_details(self) -> None:
        self._open_details(self._selected()[0])

    def _open_details(self, job: Job) -> None:
        window = self.details.get(job.id)
        if window is None:
            seconds = partial(self.queue.stage_seconds, job.id)
            window = JobDetails(self.studio, job.id, self.titles.of(job), seconds, self)
            window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            window.destroyed.connect(lambda *_: self.details.pop(job.id, None))
            self.details[job.id] = window
        window.show()
        window.raise_()
        window.activateWindow()

    def _copy(self) -> None:
        self._copy_jobs(self._selected())

    def _copy_jobs(self, jobs: Sequence[Job]) -> None:
        said = [
            f"{job.shot_name} · job {job.number} · {job.state}\n"
            f"{failure_text(job.failure) if job.failure else job.prompt}"
            for job in jobs
        ]
        QGuiApplication.clipboard().setText("\n\n".join(said))

    # --------------------------------------------------------------------- removing and cancelling

    def _remove(self) -> None:
        """What waits leaves the queue, what runs is cancelled, what ended leaves the list."""
        jobs = self._selected()
        self._leave_list([job.id for job in jobs if job.state in ENDED])
        waiting = [job for job in jobs if job.state in WAITS]
        running = [job for job in jobs if job.state == JobState.RUNNING and job.wish != Wish.CANCEL]
        self._cancel_carefully(waiting, running)

    def _cancel_running(self) -> None:
        self._cancel_carefully([], [job for job in self._running() if job.wish != Wish.CANCEL])

    def _cancel_carefully(self, waiting: Sequence[Job], running: Sequence[Job]) -> None:
        """Cancel at once, but not much work without asking."""
        cancel = partial(self._cancel, waiting, running)
        worked = [job for job in running if self._seconds_of(job) > MUCH_WORK_S]
        begun = [job for job in waiting if job.attempt > 0]  # its checkpoints go with it
        if len(worked) == 1 and not begun:
            spent = time_left(self._seconds_of(worked[0]))
            asked = f"{worked[0].shot_name} has run for {spent}. Cancel it?"
            self.notice.ask(asked, "Cancel job", cancel)
        elif len(begun) == 1 and not worked:
            asked = f"{begun[0].shot_name} was begun. Remove it and what is made of it?"
            self.notice.ask(asked, "Remove", cancel)
        elif worked or begun:
            asked = f"{len(worked) + len(begun)} jobs were begun. Cancel them all the same?"
            self.notice.ask(asked, "Cancel jobs", cancel)
        else:
            cancel()

    def _seconds_of(self, job: Job) -> float:
        """How long a job has run."""
        progress = self.studio.progress.get(job.id)
        if progress is not None:
            return progress.seconds
        return time.time() - job.started_at if job.started_at else 0.0

    def _cancel(self, waiting: Sequence[Job], running: Sequence[Job]) -> None:
        self.orders.cancel(waiting, running)
        self._refresh()

    def _cancel_waiting(self) -> None:
        jobs = [self.queue.job(row) for row in self.queue.waiting]
        begun = sum(job.attempt > 0 for job in jobs)
        if begun:
            asked = f"{begun} of {len(jobs)} waiting jobs were begun. Cancel them all the same?"
            self.notice.ask(asked, "Cancel all", partial(self._cancel_all, jobs))
        else:
            self._cancel_all(jobs)

    def _cancel_all(self, jobs: Sequence[Job]) -> None:
        self.orders.cancel_all(jobs)
        self._refresh()

    def _undo(self) -> None:
        self.notice.act.click()

    def _leave_list(self, job_ids: Sequence[str]) -> None:
        """Show jobs at their end no more."""
        self.queue.hide(job_ids)
        self.finished.hide(job_ids)
        self.orders.clear(job_ids)
        self._say()

    def _clear_finished(self) -> None:
        self._leave_list(list(self.finished.ids))

    def _toggle_finished(self) -> None:
        self._say()

    # ------------------------------------------------------------------------------ the whole queue

    def _toggle_queue(self) -> None:
        is_running = self.studio.mode == QueueMode.RUN
        self.orders.set_mode(QueueMode.PAUSE if is_running else QueueMode.RUN)

    def _toggle_stop(self) -> None:
        stops = self.stop_after.isChecked()
        self.orders.set_mode(QueueMode.STOP_AFTER if stops else QueueMode.RUN)


def _row(*widgets: QWidget | None, margin: int = 0) -> QHBoxLayout:
    """Widgets beside each other; None: what room there is."""
    row = QHBoxLayout()
    row.setContentsMargins(margin, margin // 2, margin, margin // 2)
    row.setSpacing(8)
    for widget in widgets:
        if widget is None:
            row.addStretch(1)
        else:
            row.addWidget(widget)
    return row


def _button(action: QAction) -> QPushButton:
    """A button that is the action: its words, its state, its doing."""
    button = QPushButton()
    button.setMinimumHeight(CONTROL)
    button.setCheckable(action.isCheckable())
    button.clicked.connect(action.trigger)

    def show() -> None:
        button.setText(action.text().replace("&", ""))
        button.setEnabled(action.isEnabled())
        button.setChecked(action.isChecked())
        button.setToolTip(action.statusTip() or action.toolTip())

    action.changed.connect(show)
    show()
    return button
