"""What is heard: one clip, at the moment that is shown.

A device has a clock of its own, and what is written to it is heard later. Where the pictures jump,
the sound follows them: at every start, and after a gap, it is spliced to what will be shown when it
is heard; in a loop it goes round by itself, to the sample. In between the device leads: it cannot
be played faster or slower without a click, while a picture that comes a millisecond later is not
seen. So the player's clock is moved towards the device's, a little at a time, and the two never
drift apart.

It is silent wherever it could not be right: backwards, faster, while somebody scrubs, and while
pictures come too late to be played in time.
"""

from __future__ import annotations

import time
from fractions import Fraction
from weakref import WeakSet

import numpy as np
from PySide6.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal

from desktop.viewer.player import Player, Run
from desktop.viewer.speakers import Speakers
from desktop.viewer.track import AHEAD_S, Track

LOUDEST = 100  # of the volume

_TICK_MS = 10
_READY_S = 0.04  # of silence that the device has while nothing plays: what a start waits for
_PLAYING_S = 0.12  # of sound that it has while something plays: the longest pause of this thread
_MOST_OFF_S = 0.04  # between sound and pictures
_PULL = 0.02  # of the difference, by which the pictures' clock is moved in a tick
_WAIT_S = 0.25  # for the first of the sound, when it begins to play
_STEADY_S = 0.3  # without a late picture, after which it is heard again
_REST_S = 30.0  # without anything being done, after which the device is let go
_FADE_S = 0.002  # in which a step between two samples fades away
_GAIN_STEP = 0.2  # a tick


class Sound(QObject):
    """Of one player. Nothing of it costs anything before a clip with sound is shown."""

    changed = Signal()  # what can be heard, how loud
    failed = Signal(object)  # MediaError: the sound of a clip; once for each

    def __init__(self, player: Player, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.volume = LOUDEST
        self.is_muted = False
        self.side = 1  # that is listened to: A, 0, or B, 1
        self._player = player
        self._speakers: Speakers | None = None
        self._tracks: list[Track | None] = [None, None]
        self._told: WeakSet[Track] = WeakSet()  # whose damage was said
        self._run: Run | None = None  # that is heard, or could be
        self._place: int | None = None  # in it, of the sample that is written next; None: silence
        self._stale = 0  # what was written up to here is of a run that was stopped
        self._gain = 0.0
        self._flow: tuple[Track, int] | None = None  # what would go on without a step
        self._last = self._step = np.zeros(0, np.float32)  # sample written last; what is left of
        self._slips = 0  # of the player, as they were last
        self._waits_until = self._steady_from = self._rests_at = 0.0
        self._timer = QTimer(self, interval=_TICK_MS, timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        player.changed.connect(self._follow_player)
        player.shown.connect(lambda _: self._wake())
        tracks = self._tracks  # the object is gone when it says that it is
        self.destroyed.connect(lambda: _close(tracks))
        if (app := QCoreApplication.instance()) is not None:
            app.aboutToQuit.connect(lambda: _close(tracks))

    # ------------------------------------------------------------------------------ for the panel

    def set_volume(self, volume: int) -> None:
        """From 0 to `LOUDEST`; steps sound alike."""
        volume = min(max(volume, 0), LOUDEST)
        if volume != self.volume:
            self.volume = volume
            self.changed.emit()

    def set_muted(self, is_muted: bool) -> None:
        """Keep the volume, and be silent."""
        if is_muted != self.is_muted:
            self.is_muted = is_muted
            self.changed.emit()

    def listen(self, side: int) -> None:
        """Hear A, 0, or B, 1; from one to the other without a gap."""
        if side != self.side:
            self.side = side
            self.changed.emit()

    def has_sound(self, side: int) -> bool:
        """Whether the clip that is shown there has any."""
        return self._player.sounding(side) is not None

    @property
    def why_silent(self) -> str:
        """Why nothing could be heard of the side that is listened to; empty: it can."""
        if self._speakers is not None and not self._speakers.rate:
            return "No sound device"
        if not self.has_sound(self.side):
            return f"{'AB'[self.side]} has no sound"
        if self._player.speed not in (0, 1):
            return "Sound is played at normal speed only"
        return ""

    @property
    def num_bytes(self) -> int:
        """Of the samples that are kept."""
        return sum(track.num_bytes for track in self._tracks if track)

    # ------------------------------------------------------------------------- what is to be heard

    def _follow_player(self) -> None:
        self._take_tracks()
        self._wake()
        if self._timer.isActive():
            self._tick()
        self.changed.emit()

    def _take_tracks(self) -> None:
        clips = [self._player.sounding(side) for side in (0, 1)]
        if self._speakers is None and any(clips):
            self._speakers = Speakers(self)
            self._speakers.changed.connect(self._take_device)
        rate = self._speakers.rate if self._speakers else 0
        before = [track for track in self._tracks if track is not None]
        for side, clip in enumerate(clips):
            kept = next((t for t in before if clip is not None and t.path == clip.path), None)
            if kept is not None and rate:
                before.remove(kept)
                self._tracks[side] = kept
            elif clip is not None and rate and self._speakers is not None:
                self._tracks[side] = Track(clip.path, rate, self._speakers.channels)
            else:
                self._tracks[side] = None
        _close(before)

    def _take_device(self) -> None:
        """Another one, that may count other samples."""
        _close(self._tracks)
        self._tracks[:] = None, None
        self._run = None
        self._follow_player()

    def _wake(self) -> None:
        """Somebody does something: sound may be wanted at once, and a device takes its time."""
        self._rests_at = time.perf_counter() + _REST_S
        if any(self._tracks) and self._speakers is not None and not self._speakers.is_started:
            self._last = self._step = np.zeros(self._speakers.channels, np.float32)
            self._flow, self._run, self._place, self._stale, self._gain = None, None, None, 0, 0.0
            self._speakers.start()
            self._timer.start()

    def _rest(self) -> None:
        self._timer.stop()
        if self._speakers is not None:
            self._speakers.stop()

    # ------------------------------------------------------------------------------ ten ms of work

    def _tick(self) -> None:
        speakers, now = self._speakers, time.perf_counter()
        if speakers is not None:
            speakers.see_failure()
        is_needed = any(self._tracks) and (self._player.is_playing or now < self._rests_at)
        if speakers is None or not speakers.is_started or not is_needed:
            self._rest()
            return
        run = self._player.run
        self._turn_to(run if run is not None and run.speed == 1 else None, speakers, now)
        self._want(speakers.rate)
        if self._run is None:
            pass
        elif self._place is None:
            self._join(self._run, speakers, now)
        else:
            self._keep_time(self._place, speakers, now)
        self._write(speakers)
        self._fade(speakers)
        self._tell_damage()

    def _turn_to(self, run: Run | None, speakers: Speakers, now: float) -> None:
        """The player began to play, stopped, or goes another way."""
        if run is self._run:
            return
        is_start, self._run, self._place = self._run is None, run, None
        self._steady_from, self._slips = now - _STEADY_S, self._player.num_slips
        self._waits_until = now
        if run is None:
            self._stale = speakers.num_written
        elif is_start and speakers.num_played:
            self._waits_until = now + _WAIT_S

    def _join(self, run: Run, speakers: Speakers, now: float) -> None:
        """Come in where the pictures are; at a start they wait for the first of the sound."""
        if not speakers.num_played:
            return
        if self._player.num_slips != self._slips:
            self._slips, self._steady_from = self._player.num_slips, now
            return
        if now < self._steady_from + _STEADY_S:
            return
        track = self._tracks[self.side]
        if now < self._waits_until:
            self._player.turn_back(self._player.elapsed_s + speakers.num_ahead / speakers.rate)
            first = stretches(run, speakers.rate, 0, speakers.rate // 50)
            if track is not None and track.samples(first[0]) is None:
                return
        self._splice(speakers)

    def _keep_time(self, place: int, speakers: Speakers, now: float) -> None:
        off = (place - speakers.num_ahead) / speakers.rate - self._player.elapsed_s
        if off > _MOST_OFF_S:  # pictures are late
            self._place, self._steady_from, self._slips = None, now, self._player.num_slips
        elif off < -_MOST_OFF_S:  # nothing was written for too long
            self._splice(speakers)
        else:
            self._player.turn_back(-_PULL * off)

    def _splice(self, speakers: Speakers) -> None:
        """What is written next is what is shown when it is heard."""
        heard_at_s = self._player.elapsed_s + speakers.num_ahead / speakers.rate
        self._place = max(0, round(heard_at_s * speakers.rate))

    def _want(self, rate: int) -> None:
        num_samples = round(AHEAD_S * rate)
        if self._run is not None:
            shown = max(0, round(self._player.elapsed_s * rate))
            place = shown if self._place is None else self._place
            wanted = stretches(self._run, rate, place, num_samples)
        else:
            first = round(self._player.position * rate / self._player.frame_rate)
            wanted = [range(first, first + num_samples)]
        for track in self._tracks:
            if track is not None:
                track.want(wanted)

    # ------------------------------------------------------------------------------ what is written

    def _write(self, speakers: Speakers) -> None:
        ahead_s = _READY_S if self._place is None else _PLAYING_S
        missing = round(ahead_s * speakers.rate) - speakers.num_ahead
        count = min(missing, speakers.num_free)
        if count <= 0:
            return
        track, parts = None, [range(count)]
        if self._run is not None and self._place is not None:
            track = self._tracks[self.side]
            parts = stretches(self._run, speakers.rate, self._place, count)
            self._place += count
        fade = speakers.rate * _FADE_S
        speakers.write(np.concatenate([self._samples(track, part, fade) for part in parts]))

    def _samples(self, track: Track | None, part: range, fade: float) -> np.ndarray:
        """Of a track or silence; a step from what was written before fades in `fade` samples."""
        found = track.samples(part) if track is not None else None
        flow = None if track is None or found is None else (track, part.start)
        if found is None:
            found = np.zeros((len(part), len(self._last)), np.float32)
        if flow != self._flow:
            self._step = self._last - found[0]
        shares = np.exp(-np.arange(len(part) + 1, dtype=np.float32) / np.float32(fade))
        found = found + self._step * shares[:-1, None]
        self._last, self._step = found[-1], self._step * shares[-1]
        self._flow = None if flow is None else (flow[0], part.stop)
        return found

    def _fade(self, speakers: Speakers) -> None:
        """To the volume that is wanted; of a run that was stopped nothing more is heard."""
        is_audible = self._run is not None and speakers.num_played >= self._stale
        wanted = (self.volume / LOUDEST) ** 3 if is_audible and not self.is_muted else 0.0
        if wanted != self._gain:
            by = min(max(wanted - self._gain, -_GAIN_STEP), _GAIN_STEP)
            self._gain += by
            if abs(wanted - self._gain) < 1e-6:
                self._gain = wanted
            speakers.set_gain(self._gain)

    def _tell_damage(self) -> None:
        for track in self._tracks:
            if track is not None and track.error is not None and track not in self._told:
                self._told.add(track)
                self.failed.emit(track.error)


def stretches(run: Run, rate: int, first: int, count: int) -> list[range]:
    """The samples of a clip that are heard in a run at its own speed, in order.

    Args:
        run: where it begins, and where it goes round.
        rate: samples in a second.
        first: sample of the run, from 0.
        count: how many.
    """
    if not run.is_looping:
        begin = round(run.begun_at * rate / run.frame_rate)
        return [range(begin + first, begin + first + count)]
    start = round(run.course.start * rate / run.frame_rate)
    length = len(run.course) * rate / run.frame_rate  # a whole round; no number of samples
    place = round((run.begun_at - run.course.start) * rate / run.frame_rate) + first
    found: list[range] = []
    while count > 0:
        turn = place // length
        begin, end = _ceil(turn * length), _ceil((turn + 1) * length)
        part = range(start + place - begin, start + min(end, place + count) - begin)
        found.append(part)
        place += len(part)
        count -= len(part)
    return found


def _ceil(number: Fraction) -> int:
    return int(-(-number // 1))


def _close(tracks: list[Track | None] | list[Track]) -> None:
    for track in tracks:
        if track is not None:
            track.close()
