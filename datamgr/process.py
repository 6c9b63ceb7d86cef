"""External programs: the only caller of `subprocess`."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from datamgr.errors import UnavailableError

Argv = Sequence[str | bytes]
Process = subprocess.Popen[bytes]
PIPE = subprocess.PIPE


class ProgramError(UnavailableError):
    """A program ended with another exit code than 0; `said` is all that it printed."""

    def __init__(self, message: str, exit_code: int, said: bytes) -> None:
        super().__init__(message)
        self.exit_code, self.said = exit_code, said


# Asks the kernel for SIGTERM at the parent's death. A parent that died before it was asked is
# noticed by the shell, which then has another one than the one it was told.
_BOUND = ("setpriv", "--pdeathsig", "TERM", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def run(
    argv: Argv,
    *,
    timeout_s: float,
    input_bytes: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> bytes:
    """What the program printed, once it ended well. No shell is involved.

    Raises:
        ProgramError: it failed; the message carries the last line it said.
        UnavailableError: it is not installed or took longer than `timeout_s`.
    """
    program = _display(argv[0])
    try:
        done = subprocess.run(  # noqa: S603  arguments are a list, never a shell line
            argv,
            input=input_bytes,
            stdin=subprocess.DEVNULL if input_bytes is None else None,
            capture_output=True,
            timeout=timeout_s,
            env=env,
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise UnavailableError(f"the program {program} is not installed") from error
    except PermissionError as error:
        raise UnavailableError(f"the program {program} may not be run by this account") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{program} did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else "it said nothing"
        raise ProgramError(
            f"{program} failed with exit code {done.returncode}: {reason}",
            done.returncode,
            done.stdout + done.stderr,
        )
    return done.stdout


def spawn(
    argv: Argv,
    *,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    new_session: bool = False,
) -> Process:
    """Start a program that goes on by itself, by default with nothing to read.

    Raises:
        UnavailableError: it is not installed or may not be run.
    """
    try:
        return subprocess.Popen(  # noqa: S603  arguments are a list, never a shell line
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            start_new_session=new_session,
        )
    except OSError as error:
        raise UnavailableError(f"cannot start {_display(argv[0])}: {error.strerror}") from error


def pipes(started: Process) -> tuple[IO[bytes], IO[bytes]]:
    """Input and output of a program that was started with a `PIPE` for both."""
    if started.stdin is None or started.stdout is None:
        raise ValueError("the program was started without pipes")
    return started.stdin, started.stdout


def spawn_bound(argv: Sequence[str]) -> Process:
    """Start a program that is sent SIGTERM when this process dies, even if by SIGKILL.

    It has a session of its own, so that Ctrl-C does not reach it; all that it prints is read
    from its `stdout`. Call this in the main thread: to the kernel the parent is a thread.
    Source: prctl(2), PR_SET_PDEATHSIG.

    Raises:
        UnavailableError: it cannot be started.
    """
    return spawn(
        [*_BOUND, str(os.getpid()), *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        new_session=True,
    )


def _display(argument: str | bytes) -> str:
    return argument.decode(errors="replace") if isinstance(argument, bytes) else argument
