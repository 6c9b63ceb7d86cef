"""Work on a batch of files, each step of which is in the journal before it is done."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import orm

from datamgr.errors import ConflictError
from tiering import faults, journal, models, rows
from tiering.held import Batch, Held


class Journaled:
    """An action on a batch of files."""

    def __init__(self, batch: Batch, action: str) -> None:
        self.batch = batch
        self._action = action
        self._operation = 0
        self._left: dict[int, bytes] = {}  # marks of files of which the outcome is open

    def begin(self, step: str) -> None:
        """Write down what is about to be done; files with unfinished work are left out."""
        marks = {file.known.file_id: file.mark.encode() for file in self.batch.files}
        with self._session() as session:
            self._operation, begun = journal.begin(
                session, self.batch.root.name, self._action, step, marks
            )
        self._left = {file: marks[file] for file in begun}
        if len(begun) < len(marks):
            self.batch.each(self._require_begun)
        faults.reach(f"{self._action}.{step}")

    def advance(self, step: str) -> None:
        """Write down that the next step begins."""
        with self._session() as session:
            journal.advance(session, self._operation, step)
        faults.reach(f"{self._action}.{step}")

    def end(self, state: str) -> None:
        """The files are done and have a new state; what is on disk now is the known version."""
        files = self.batch.files
        if not files:
            return
        with self._session() as session:
            self._settle(session, files, "done")
            rows.set_state(session, [file.known.file_id for file in files], state)
            if state == models.BOTH:
                ctimes = {file.known.version_id: file.status.st_ctime_ns for file in files}
                rows.set_ctimes(session, ctimes)
        faults.reach(f"{self._action}.recorded")
        report = self.batch.report
        report.done += len(files)
        report.done_bytes += sum(file.status.st_size for file in files)

    @contextmanager
    def undoing(self) -> Iterator[None]:
        """A block: what fails in it is taken back at its end, everything if an error ends it."""
        begun = list(self.batch.files)
        try:
            yield
        except BaseException:
            self.batch.files = []
            raise
        finally:
            going_on = {id(file) for file in self.batch.files}
            failed = [file for file in begun if id(file) not in going_on]
            undone = [file for file in failed if self._is_taken_back(file)]
            if undone:
                with self._session() as session:
                    self._settle(session, undone, "undone")

    def take_back(self, file: Held) -> None:
        """Make of a file what it was before.

        Raises:
            OSError: that failed; recovery tries again.
        """
        raise NotImplementedError

    def _is_taken_back(self, file: Held) -> bool:
        try:
            self.take_back(file)
        except OSError:
            return False
        return True

    def _require_begun(self, file: Held) -> None:
        if file.known.file_id not in self._left:
            raise ConflictError("something is being done to it already; try again later")

    def _settle(self, session: orm.Session, files: list[Held], step: str) -> None:
        """Write down that the outcome of some is open no more."""
        settled = {file.known.file_id for file in files}
        self._left = {file: mark for file, mark in self._left.items() if file not in settled}
        journal.end(session, self._operation, step, self._left)

    def _session(self) -> AbstractContextManager[orm.Session]:
        return self.batch.root.database.transaction()
