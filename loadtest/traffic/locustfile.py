"""The composition root inside Locust: `locust -f traffic/locustfile.py` with the plan in `LOAD_*`.

Run by the one that leads (or alone) and by workers. Workers prepare their tokens before they report for work, so that a run begins
when all of them can ask.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from datetime import UTC, datetime
from typing import Any

import gevent
import locust
from gevent.util import format_run_info
from locust import LoadTestShape, events, runners

from outcome.files import files_of
from outcome.plan import level
from outcome.run import Component, Generator, Run, RunError, write_kept
from outcome.thresholds import Thresholds, judge, read_thresholds
from traffic.cluster import ClusterObserver, Keeper, connect
from traffic.leader import NoLeader, await_leader
from traffic.observer import Observer
from traffic.recording import Recording, Window
from traffic.settings import Settings, read_settings
from traffic.stack import StackObserver
from traffic.state import State
from traffic.tokens import Prepared, prepare
from traffic.users import OF_ENDPOINT, Asking

THRESHOLDS_MISSED, NOT_KEPT = 1, 3
"""Exit codes beside 0 for a good run; Locust's own is 2 where it could not begin."""
LOST = 4
"""Of a worker that ends while its run goes on: its Job makes another. Every other end of a worker is a good one."""
SAVE_SECONDS = 3.0
OVERTIME_SECONDS = 60
"""After a plan's end, for Locust to end: then the run ends without it, for nobody else would end it."""
runners.WORKER_REPORT_INTERVAL = 1.0
runners.MASTER_HEARTBEAT_TIMEOUT = 20


def _settings() -> Settings:
    try:
        return read_settings()
    except RunError as error:
        sys.exit(str(error))


def _prepared(settings: Settings) -> Prepared:
    if "--master" in sys.argv:
        return Prepared([])
    needs = settings.endpoint in ("validate", "introspect", "mix")
    try:
        return prepare(settings.url, settings.credentials(), settings.tokens, settings.bad_share) if needs else Prepared([])
    except RunError as error:
        sys.exit(str(error))


SETTINGS = _settings()
if "--worker" in sys.argv:
    try:
        await_leader(sys.argv[1:], SETTINGS.wait_seconds)
    except NoLeader as error:
        # Nothing is lost by that, so its Job need not make another.
        print(error, file=sys.stderr)
        sys.exit(0)
PREPARED = _prepared(SETTINGS)
Asking.host = SETTINGS.url
AskingUser = OF_ENDPOINT[SETTINGS.endpoint]


class PlanShape(LoadTestShape):
    """Users by the plan: of an open arrival all from the beginning, of a closed one as its shape says."""

    def tick(self) -> tuple[int, float] | None:
        """Called once a second; None ends the run."""
        at = self.get_run_time() / SETTINGS.seconds
        if at >= 1:
            return None
        part = 1.0 if SETTINGS.arrival == "open" else level(SETTINGS.shape, at)
        return max(1, round(SETTINGS.users * part)), SETTINGS.users


class Worker:
    """Counts what this generator sees."""

    def __init__(self, environment: Any) -> None:
        self.window = Window()
        self._is_quitting = False
        environment.events.request.add_listener(self.on_request)
        environment.events.quitting.add_listener(self.on_quitting)
        environment.events.test_start.add_listener(self.on_start)
        environment.events.test_stopping.add_listener(self.on_stopping)
        environment.events.test_stop.add_listener(self.on_stop)
        environment.events.report_to_master.add_listener(self.on_report)
        self._environment = environment
        if isinstance(environment.runner, runners.WorkerRunner):
            environment.process_exit_code = LOST

    def on_start(self, **_: Any) -> None:
        """The load begins."""
        self.window = Window()
        Asking.state = State(SETTINGS.plan, SETTINGS.credentials(), PREPARED, self.when_begun)

    def when_begun(self) -> None:
        """The first user is there."""
        if SETTINGS.warm_up_seconds:
            gevent.spawn_later(SETTINGS.warm_up_seconds, self.window.begin)
        else:
            self.window.begin()

    def on_stopping(self, **_: Any) -> None:
        """From here on users are stopped, and ask no more."""
        self.window.stop_clock()

    def on_stop(self, **_: Any) -> None:
        """All users have stopped, and told what was never answered: the leader said so, or has gone."""
        self.window.end()
        if self._environment.process_exit_code == LOST and not self._is_quitting:
            self._environment.process_exit_code = 0

    def on_quitting(self, **_: Any) -> None:
        """The process ends. If its users have not stopped by now, it was told to by somebody else than the leader."""
        self._is_quitting = True

    def on_request(self, name: str, response_time: float, exception: BaseException | None, **_: Any) -> None:
        """An answer, or none."""
        self.window.count(name, response_time, None if exception is None else str(exception))

    def on_report(self, data: dict[str, Any], **_: Any) -> None:
        """Once a second, to the one that leads."""
        data["window"] = self.window.take()


class Leader:
    """Adds up what all generators see, looks at the service, and keeps the result."""

    def __init__(self, environment: Any, alone: Worker | None) -> None:
        self._environment, self._alone = environment, alone
        self._recording: Recording | None = None
        self._observer: Observer | None = None
        self._keeper: Keeper | None = None
        self._present: set[str] = set()
        if SETTINGS.release or SETTINGS.config_map:
            account = connect()
            self._keeper = Keeper(SETTINGS.config_map, account) if SETTINGS.config_map else None
            self._observer = ClusterObserver(SETTINGS.release, account) if SETTINGS.release else None
        elif SETTINGS.stack is not None:
            self._observer = StackObserver(SETTINGS.stack)
        environment.events.test_start.add_listener(self.on_start)
        environment.events.worker_report.add_listener(self.on_report)
        environment.events.test_stopping.add_listener(self.on_stopping)
        environment.events.quitting.add_listener(self.on_quitting)

    def on_start(self, **_: Any) -> None:
        """The load begins."""
        environment = {"generator": f"locust {locust.__version__}, Python {platform.python_version()}"} | SETTINGS.environment
        run = Run(name=SETTINGS.name, plan=SETTINGS.plan, started=datetime.now(UTC), environment=environment)
        run.generator = Generator(expected=SETTINGS.workers, most=0, lost=[], cpu_shares={})
        self._recording = Recording(run)
        for each in (self._count, self._look, self._save):
            gevent.spawn(each, self._recording)
        gevent.spawn_later(SETTINGS.seconds + OVERTIME_SECONDS, self._end_without_locust)

    def on_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """What a worker saw."""
        if self._recording is not None and "window" in data:
            self._recording.add(client_id, data["window"], self._environment.runner.user_count)

    def on_stopping(self, **_: Any) -> None:
        """From here on workers go because they are told to."""
        if self._recording is not None:
            self._note_workers(self._recording)
            complete = self._recording.at_seconds >= SETTINGS.seconds
            self._recording.run.end = "complete" if complete else "interrupted"

    def on_quitting(self, **_: Any) -> None:
        """Keep the result, and let the exit code say whether it reached its thresholds."""
        if self._recording is None:
            return
        self._take_own(self._recording)
        run = self._finished(self._recording)
        thresholds = read_thresholds(SETTINGS.thresholds) if SETTINGS.thresholds else Thresholds()
        held = all(each.held for each in judge(run, thresholds))
        self._environment.process_exit_code = 0 if held else THRESHOLDS_MISSED
        try:
            write_kept(run, SETTINGS.result)
            if self._keeper is not None:
                self._keeper.keep(files_of(run, thresholds), state=run.end, held="yes" if held else "no")
        except (RunError, OSError) as error:
            print(f"The result was not kept: {error}", file=sys.stderr)
            self._environment.process_exit_code = NOT_KEPT

    def _end_without_locust(self) -> None:
        """What its greenlets wait for is told, then the result kept."""
        print(f"Locust has not ended {OVERTIME_SECONDS} s after the plan did. It waits for this:", file=sys.stderr)
        print(*format_run_info(), sep="\n", file=sys.stderr, flush=True)
        self.on_quitting()
        os._exit(self._environment.process_exit_code)

    def _finished(self, recording: Recording) -> Run:
        if recording.run.end == "running":
            recording.run.end = "interrupted"
        run = recording.snapshot()
        limits = self._observer.limits() if self._observer is not None else {}
        means = recording.component_means()
        run.components = {name: Component(cpu_cores=round(cores, 3), limit_cores=limits.get(name)) for name, cores in means.items()}
        return run

    def _count(self, recording: Recording) -> None:
        while recording.run.end == "running":
            gevent.sleep(1.0)
            self._take_own(recording)
            if recording.run.end == "running":  # else workers go because they were told to
                self._note_workers(recording)

    def _take_own(self, recording: Recording) -> None:
        if self._alone is not None:
            recording.add("alone", self._alone.window.take(), self._environment.runner.user_count)

    def _look(self, recording: Recording) -> None:
        if self._observer is None:
            return
        while recording.run.end == "running":
            gevent.sleep(self._observer.every_seconds)
            recording.look(*self._observer.look(), self._observer.lag_seconds)

    def _save(self, recording: Recording) -> None:
        """So that a run whose leader is killed has left what it had."""
        while recording.run.end == "running":
            gevent.sleep(SAVE_SECONDS)
            if self._keeper is not None and recording.run.end == "running":
                with contextlib.suppress(RunError):  # the end tries again, and tells
                    self._keeper.keep({"run.json": recording.snapshot().model_dump_json()}, state="running", held="")

    def _note_workers(self, recording: Recording) -> None:
        if self._alone is not None:
            recording.run.generator.most = 1
            return
        clients = self._environment.runner.clients
        now = {each.id for each in clients.values() if each.state in (runners.STATE_SPAWNING, runners.STATE_RUNNING)}
        for gone in sorted(self._present - now):
            recording.lose(gone)
        self._present = now
        recording.run.generator.most = max(recording.run.generator.most, len(now))


@events.init.add_listener
def on_init(environment: Any, **_: Any) -> None:
    """Who this process is decides what it does."""
    runner = environment.runner
    worker = None if isinstance(runner, runners.MasterRunner) else Worker(environment)
    if not isinstance(runner, runners.WorkerRunner):
        print(f"The plan {SETTINGS.plan.ceiling}.", file=sys.stderr)
        Leader(environment, worker)
