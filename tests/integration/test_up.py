"""`datamgr up` and its supervisor: order, restarts, stops and sudden deaths."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from datamgr import services
from datamgr.cli import main, up
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.errors import InvalidError
from datamgr.postgres_place import Place
from datamgr.supervisor import Supervisor, Timing

HASTY = Timing(grace_s=0.5, restart_first_s=0.01, restart_cap_s=0.04, healthy_s=60)

SLEEPS = "print('here', flush=True); import time; time.sleep(300)"
# Not by print: the signal may come while the main program is still inside its own print.
STUBBORN = f"""
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'no\\n'))
{SLEEPS}
"""


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop()
    yield made
    made.close()


class Screen:
    """What a supervisor shows, and what the test does about it."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.react: Callable[[str, str], object] = lambda name, line: None

    def show(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        self.react(name, line)

    def said(self, name: str) -> list[str]:
        return [line for its_name, line in self.lines if its_name == name]


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def eventually(condition: Callable[[], object], what: str, deadline_s: float = 120) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)


def test_all_are_started_in_order_and_stopped_in_reverse_order(stop: Stop) -> None:
    screen = Screen()
    screen.react = lambda name, line: screen.said("b") and screen.said("a") and stop.set()
    Supervisor({"a": python(SLEEPS), "b": python(SLEEPS)}, screen.show, HASTY).run(stop)
    changes = [line.split(",")[0] for line in screen.said("up")]
    assert changes == ["a started", "b started", "b was ended by SIGTERM", "a was ended by SIGTERM"]


def test_a_service_that_dies_is_started_again_ever_later(stop: Stop) -> None:
    """First after 10 ms, then 20 ms, then at most 40 ms, each less up to half of it as jitter."""
    screen = Screen()
    screen.react = lambda name, line: len(screen.said("a")) == 5 and stop.set()
    program = "print('here', flush=True); raise SystemExit(7)"
    Supervisor({"a": python(program)}, screen.show, HASTY).run(stop)
    put_off = [line for line in screen.said("up") if "again" in line]
    assert len(put_off) >= 4
    assert put_off[0] == "a ended with exit code 7; starting it again in 0.0 s"


@pytest.mark.parametrize("code", [2, 4])
def test_a_service_that_cannot_run_ends_all_with_its_sentence(stop: Stop, code: int) -> None:
    screen = Screen()
    program = f"print('datamgr: no such thing', flush=True); raise SystemExit({code})"
    supervised = Supervisor({"a": python(SLEEPS), "b": python(program)}, screen.show, HASTY)
    with pytest.raises(InvalidError, match="the service b cannot run: no such thing"):
        supervised.run(stop)
    assert screen.said("up")[-1] == "a was ended by SIGTERM"


def test_a_service_that_does_not_stop_is_killed_after_the_grace(stop: Stop) -> None:
    screen = Screen()
    screen.react = lambda name, line: line == "here" and stop.set()
    Supervisor({"a": python(STUBBORN)}, screen.show, HASTY).run(stop)
    assert screen.said("a") == ["here", "no"]
    assert screen.said("up")[-2:] == ["a does not stop; killing it", "a was ended by SIGKILL"]


def test_a_second_ctrl_c_does_not_wait_for_the_grace(stop: Stop) -> None:
    screen = Screen()
    patient = Supervisor({"a": python(STUBBORN)}, screen.show, Timing(grace_s=300))

    def react(name: str, line: str) -> None:
        if line == "here":
            stop.set()
        elif line == "no":
            patient.hasten()

    screen.react = react
    began = time.monotonic()
    patient.run(stop)
    assert time.monotonic() - began < 60
    assert screen.said("up")[-1] == "a was ended by SIGKILL"


def test_what_a_killed_service_left_running_is_ended(stop: Stop) -> None:
    """The grandchild would keep the service's port and its output open."""
    screen = Screen()
    grandchild: list[int] = []
    program = f"""
import subprocess, sys, os
child = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}])
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""

    def react(name: str, line: str) -> None:
        if name == "a" and line.isdigit():
            grandchild.append(int(line))
        if "again" in line:
            stop.set()

    screen.react = react
    Supervisor({"a": python(program)}, screen.show, HASTY).run(stop)
    eventually(lambda: not alive(grandchild[0]), "the end of the grandchild")


def test_an_unknown_service_is_refused_by_name(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("DATAMGR_UP__SERVICES", json.dumps(["web", "wbe"]))
    assert main.run(["up"]) == InvalidError.exit_code
    assert (
        "there is no service 'wbe' (up.services); known are web, worker, perms-worker, perms-lister"
        in (capsys.readouterr().err)
    )


def test_services_are_commands_with_the_same_global_options() -> None:
    argv = services.commands(["worker"], ["--config", "/etc/x.toml"])["worker"]
    assert argv[1:] == ["-m", "datamgr.cli.main", "--config", "/etc/x.toml", "worker"]
    argv = services.commands(["perms-lister"], [])["perms-lister"]
    assert argv[-2:] == ["perms", "lister"]


def test_a_log_line_is_shown_as_text_and_other_lines_as_they_are() -> None:
    entry = {"time": "2026-01-02T03:04:05.678+00:00", "level": "info", "message": "begins \x1b"}
    assert up._readable(json.dumps(entry)) == r"03:04:05 info begins \x1b"
    assert up._readable("Listening on 8765") == "Listening on 8765"
    assert up._readable("[1]") == "[1]"


@contextmanager
def up_process(*options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "datamgr.cli.main", *options, "up"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.fullmatch(pattern, line):
            return match
    raise AssertionError(f"up has ended without a line like {pattern}")


def worker_started(process: subprocess.Popen[str]) -> int:
    """Reads until a worker is started; its process number."""
    return int(read_until(process, r"up     \| worker started, process (\d+)\n")[1])


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def only_worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAMGR_UP__SERVICES", json.dumps(["worker"]))


@pytest.mark.usefixtures("only_worker")
def test_up_restarts_a_killed_worker_and_stops_at_ctrl_c() -> None:
    with up_process() as process:
        first = worker_started(process)
        os.kill(first, signal.SIGKILL)
        second = worker_started(process)
        assert alive(second) and not alive(first)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
    assert not alive(second)
    assert "up     | worker " in output


@pytest.mark.usefixtures("only_worker")
def test_when_up_is_killed_its_services_end() -> None:
    """At the earliest moment, when the worker's program has not even begun."""
    with up_process() as process:
        pid = worker_started(process)
        process.kill()
        eventually(lambda: not alive(pid), "the end of the worker")


@pytest.mark.usefixtures("only_worker")
def test_when_up_is_killed_a_worker_at_work_ends() -> None:
    with up_process() as process:
        pid = worker_started(process)
        read_until(process, r"worker \| .* waits for tasks of the kinds scan\n")
        process.kill()
        eventually(lambda: not alive(pid), "the end of the worker")


@pytest.mark.usefixtures("only_worker")
def test_services_get_the_configuration_file_of_up(tmp_path: Path) -> None:
    file = tmp_path / "datamgr.toml"
    file.write_text("[web]\nport = 0\n")
    with up_process("--config", str(file)) as process:
        arguments = psutil.Process(worker_started(process)).cmdline()
    assert arguments[-3:] == ["--config", str(file), "worker"]


def test_the_embedded_database_lives_as_long_as_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It survives the worker that used it, and stops after the services at SIGTERM."""
    monkeypatch.setenv("DATAMGR_UP__SERVICES", json.dumps(["worker"]))
    place = Place.under(tmp_path / "state")
    with up_process() as process:
        worker = worker_started(process)
        postmaster = place.postmaster()
        assert postmaster is not None
        os.kill(worker, signal.SIGKILL)
        worker_started(process)
        assert place.postmaster() == postmaster
        process.terminate()
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert not alive(postmaster)


def test_permission_services_run_under_up_and_end_with_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also when up is killed: dropping privileges forgets the signal that was asked for."""
    monkeypatch.setenv("DATAMGR_UP__SERVICES", json.dumps(["perms-worker", "perms-lister"]))
    monkeypatch.setenv("DATAMGR_PITOOLBOX__ROOTS", json.dumps([str(tmp_path)]))
    with up_process() as process:
        worker = int(read_until(process, r"up +\| perms-worker started, process (\d+)\n")[1])
        lister = int(read_until(process, r"up +\| perms-lister started, process (\d+)\n")[1])
        missing = {"waits for tasks of the kinds perms", "lists directories, asked on"}
        while missing:
            line = read_until(process, r".*(waits for tasks|lists directories).*\n")[0]
            missing = {text for text in missing if text not in line}
        process.kill()
        eventually(lambda: not alive(worker) and not alive(lister), "the end of both")
