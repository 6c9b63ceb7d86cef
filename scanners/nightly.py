"""What is done every night: scan all file systems, thin the history out, check the alerts."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from datamgr import catalog, db
from datamgr.config import Settings
from datamgr.config_nightly import NightlyFileSystem
from datamgr.daemon import Stop
from datamgr.db import Database
from datamgr.errors import DatamgrError, InvalidError, NotFoundError, UnavailableError
from datamgr.identity import Caller
from datamgr.units import format_count
from scanners import alerts, history, nightly_sources, queries
from scanners.lock import NIGHTLY_CLASS, NIGHTLY_RUN, advisory_lock
from scanners.walk import Progress

log = logging.getLogger(__name__)

INTERRUPTED = 130  # as `datamgr.cli.main` ends after Ctrl-C


class StepState(StrEnum):
    """How a step ended; `skipped` was not begun, because the run was asked to stop."""

    DONE = "done"
    PLANNED = "planned"
    FAILED = "failed"
    STOPPED = "stopped"
    SKIPPED = "skipped"


class Stopped(Exception):
    """The run was asked to stop."""

    def __init__(self) -> None:
        super().__init__("stopped by a signal")


@dataclass
class Step:
    """One step and how it went; `timings_s` are the seconds of its parts."""

    step: str
    filesystem: str | None
    state: StepState = StepState.DONE
    duration_s: float = 0
    timings_s: dict[str, float] = field(default_factory=dict)
    scan_id: int | None = None
    message: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class Run:
    """One night. Steps end each for itself: one that fails leaves the others to be done."""

    settings: Settings
    database: Database
    caller: Caller
    stop: Stop
    dry_run: bool = False
    on_progress: Callable[[str], None] = lambda _: None

    def steps(self, filesystems: Sequence[NightlyFileSystem]) -> Iterator[Step]:
        """Do all steps in their order; each is yielded when it has ended.

        Until a step ends well, the scan of before stays the current one. SIGTERM and the like
        are obeyed during a walk and between steps.

        Raises:
            ForbiddenError: the caller may not run this.
            ConflictError: another run is under way.
            UnavailableError: the database does not answer.
        """
        with self.database.transaction(read_only=True) as session:
            catalog.require_manager(session, self.caller, "run the nightly steps")
        refusal = "a nightly run is under way; wait for it to end"
        with advisory_lock(self.database, NIGHTLY_CLASS, NIGHTLY_RUN, refusal):
            for filesystem in filesystems:
                yield self._ended(
                    Step("scan", filesystem.name), partial(self._scan, filesystem=filesystem)
                )
            yield self._ended(Step("history", None), self._thin)
            yield self._ended(Step("alerts", None), self._check_alerts)

    def _ended(self, step: Step, work: Callable[[Step], None]) -> Step:
        """Do a step and note how it ended; nothing but a second Ctrl-C gets past."""
        begin = time.monotonic()
        step.state = StepState.PLANNED if self.dry_run else StepState.DONE
        skipped = self.stop.is_set()
        try:
            self._checkpoint()
            work(step)
        except Stopped as error:
            step.state = StepState.SKIPPED if skipped else StepState.STOPPED
            step.message, step.exit_code = str(error), INTERRUPTED
        except DatamgrError as error:
            step.state, step.message, step.exit_code = (
                StepState.FAILED, str(error), error.exit_code,
            )  # fmt: skip
        except Exception as error:
            log.exception("%s failed by an internal error", step.step)
            reason = f"internal error: {type(error).__name__}: {error}".splitlines()[0]
            step.state, step.message = StepState.FAILED, f"{reason}, see the log"
            step.exit_code = UnavailableError.exit_code
        step.duration_s = round(time.monotonic() - begin, 3)
        level = logging.WARNING if step.exit_code else logging.INFO
        detail = {"step": step.step, "filesystem": step.filesystem, "duration_s": step.duration_s}
        what = f"{step.step} {step.filesystem}" if step.filesystem else step.step
        told = (what, step.state, step.duration_s, step.message)
        log.log(level, "%s %s after %.1f s: %s", *told, extra=detail)
        return step

    def _checkpoint(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _scan(self, step: Step, filesystem: NightlyFileSystem) -> None:
        source = nightly_sources.source_of(self.settings, self.database, filesystem)
        if self.dry_run:
            step.message = f"would {source.shown}"
            return

        def on_progress(seen: Progress) -> None:
            self._checkpoint()
            total = format_count(seen.entries + seen.directories)
            self.on_progress(f"{filesystem.name}: {total} entries")

        def on_step(name: str) -> None:
            self._checkpoint()
            self.on_progress(f"{filesystem.name}: {name} ...")

        step.scan_id = source.run(on_progress, on_step)
        with self.database.transaction(read_only=True) as session:
            scan = queries.scan_by_id(session, step.scan_id)
            entries = (scan.entries or 0) + (scan.directories or 0)
            step.timings_s = scan.timings_s
            errors = sum(scan.errors.values())
        step.message = f"scan {step.scan_id}: {format_count(entries)} entries"
        if errors:
            step.message += f", {format_count(errors)} not counted"

    def _thin(self, step: Step) -> None:
        with self.database.transaction() as session:
            removed = history.thin(session, self.caller, self.settings.nightly, db.utc_now())
            if self.dry_run:
                session.rollback()
        would = "would remove" if self.dry_run else "removed"
        step.message = f"{would} {format_count(removed)} rows of the projects' history"

    def _check_alerts(self, step: Step) -> None:
        rows = alerts.check(self.database, self.settings.alerts, dry_run=self.dry_run)
        failed = [row for row in rows if row["error"]]
        if failed:
            raise UnavailableError(
                f"{len(failed)} of {len(rows)} notices could not be delivered and are tried "
                f"again next time: {failed[0]['error']}"
            )
        step.message = f"{len(rows)} notices{' would be' if self.dry_run else ''} sent"


def chosen(settings: Settings, only: str | None) -> list[NightlyFileSystem]:
    """The configured file systems, or the one of a name.

    Raises:
        InvalidError: none is configured.
        NotFoundError: none has that name.
    """
    configured = list(settings.nightly.filesystem)
    if not configured:
        raise InvalidError(
            "no file system is configured; add [[nightly.filesystem]] with name and paths"
        )
    found = [filesystem for filesystem in configured if only in (None, filesystem.name)]
    if not found:
        names = ", ".join(filesystem.name for filesystem in configured)
        raise NotFoundError(
            f"no file system {only!r} is configured for the night; there are {names}"
        )
    return found


def exit_code(steps: Sequence[Step]) -> int:
    """0 if all went well, 130 if stopped, else the code of what failed, 7 if these differ."""
    codes = {step.exit_code for step in steps} - {0}
    if INTERRUPTED in codes:
        return INTERRUPTED
    return codes.pop() if len(codes) == 1 else UnavailableError.exit_code if codes else 0
