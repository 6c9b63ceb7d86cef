"""File names from the newest scan of a file system, instead of a walk: asked of `datamgr find`.

Packages of features do not import each other; they have the command line in common.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence

from datamgr import process
from datamgr.errors import DatamgrError, UnavailableError

_BLOCK_BYTES = 1 << 20


def files(path: bytes, filesystem: str, global_options: Sequence[str]) -> Iterator[bytes]:
    """The regular files below a path, in no useful order.

    `global_options` stand before the command, as in `datamgr --config FILE find`.

    Raises:
        DatamgrError: what `datamgr find` ended with; then some of them may have been missing.
    """
    program = [sys.executable, "-m", "datamgr.cli.main", *global_options]
    question = ["find", "--filesystem", filesystem, "--kind", "f", "--null", "--"]
    argv: list[str | bytes] = [*program, *question, path]
    with tempfile.TemporaryFile() as said:
        started = process.spawn(argv, stdin=process.PIPE, stdout=process.PIPE, stderr=said)
        questions, answers = process.pipes(started)
        questions.close()
        try:
            rest = b""
            while block := answers.read(_BLOCK_BYTES):
                *whole, rest = (rest + block).split(b"\0")
                yield from whole
        finally:
            answers.close()
            code = started.wait()
        if code:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            kinds = {kind.exit_code: kind for kind in DatamgrError.__subclasses__()}
            raise kinds.get(code, UnavailableError)(lines[-1].removeprefix("datamgr: "))
