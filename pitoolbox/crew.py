"""Several privileged processes on one tree: whoever is idle takes the next directories."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from pitoolbox.executor import Answer, Directory, Executor, ExecutorDiedError, Order, Report, Row

SHARE = 32  # directories that one takes at a time


class CrewDiedError(BaseException):
    """A privileged process has ended; no Exception, for the task must not end with it.

    The worker ends, the task is taken back by the next one as after any crash.
    """


@dataclass
class Crew:
    """The processes of one worker; they work on one order at a time."""

    executors: Sequence[Executor]

    @property
    def is_privileged(self) -> bool:
        """Whether they may change what the worker's own account may not."""
        return all(executor.is_privileged for executor in self.executors)

    def check(self) -> None:
        """Look whether all of them still run.

        Raises:
            CrewDiedError: one has ended.
        """
        self._each(Executor.check)

    def begin(self, order: Order) -> None:
        """Hand all of them the order.

        Raises:
            InvalidError: it is refused; the message is the sentence.
            CrewDiedError: one has ended.
        """
        self._each(lambda executor: executor.begin(order))

    def change(self, paths: Sequence[bytes], on_report: Callable[[Report], Answer]) -> None:
        """Consider the entries at these paths and, as the order says, all below them.

        `on_report` is called by several threads. What it raises ends the work of all of them
        and is raised here.
        """
        run = _Run(on_report)
        self._together(run, lambda number, executor: self._walk(run, executor, paths, number))

    def restore(
        self,
        rows: Sequence[Row],
        to: Literal["before", "after"],
        on_report: Callable[[Report], Answer],
        *,
        written_down: bool = False,
    ) -> None:
        """Bring entries to one side of a change. Raises what `on_report` raises."""
        run = _Run(on_report)
        with run.noting():
            self.executors[0].restore(rows, to, run.report, written_down=written_down)
        run.check()

    def close(self) -> None:
        """End the processes."""
        for executor in self.executors:
            executor.close()

    def _each(self, work: Callable[[Executor], None]) -> None:
        try:
            for executor in self.executors:
                work(executor)
        except ExecutorDiedError as error:
            raise CrewDiedError(str(error)) from error

    def _together(self, run: "_Run", work: Callable[[int, Executor], None]) -> None:
        threads = [
            threading.Thread(target=work, args=(number, executor), name=f"executor-{number}")
            for number, executor in enumerate(self.executors)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.check()

    def _walk(self, run: "_Run", executor: Executor, paths: Sequence[bytes], number: int) -> None:
        with run.noting():
            if number == 0:
                executor.entries(paths, run.report)
            run.started(number)
            while share := run.take():
                executor.walk(share, run.report)
                run.give_back()
        run.finish()


@dataclass
class _Run:
    """What the threads share: directories still to be walked, and why to stop."""

    on_report: Callable[[Report], Answer]
    _stack: list[Directory] = field(default_factory=list)
    _busy: int = 1  # whoever considers the selected entries, which may find directories
    _failure: BaseException | None = None
    _change: threading.Condition = field(default_factory=threading.Condition)

    def report(self, report: Report) -> Answer:
        """Take what was found and say whether to go on."""
        if self._failure is not None:
            return "stop"
        try:
            answer = self.on_report(report)
        except BaseException as error:  # noqa: BLE001  raised again by `check`
            self._fail(error)
            return "stop"
        if report.found:
            with self._change:
                self._stack.extend(report.found)
                self._change.notify_all()
        return answer

    def started(self, number: int) -> None:
        """The selected entries have been considered, if this was the thread that did."""
        if number == 0:
            self.give_back()

    def take(self) -> list[Directory]:
        """Some directories; none when all are walked. Waits while another may find more."""
        with self._change:
            while not self._stack and self._busy and self._failure is None:
                self._change.wait()
            if self._failure is not None or not self._stack:
                return []
            # Half at most, so that the others find work too; the latest, so that few wait.
            number = min(SHARE, max(1, len(self._stack) // 2))
            share = self._stack[-number:]
            del self._stack[-number:]
            self._busy += 1
            return share

    def give_back(self) -> None:
        """What was taken is walked."""
        with self._change:
            self._busy -= 1
            self._change.notify_all()

    def finish(self) -> None:
        """Wake who waits: there may be nothing left to wait for."""
        with self._change:
            self._change.notify_all()

    @contextmanager
    def noting(self) -> Iterator[None]:
        """A block whose exception stops all, and is raised by `check`."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001  raised again by `check`
            self._fail(error)

    def check(self) -> None:
        """Raise why the work was stopped, if it was."""
        if isinstance(self._failure, ExecutorDiedError):
            raise CrewDiedError(str(self._failure)) from self._failure
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: BaseException) -> None:
        with self._change:
            self._failure = self._failure or error
            self._change.notify_all()
