"""The process that carries out orders; `pitoolbox.privileged` says what it is."""

import json
import os
import resource
import signal
import sys
from typing import Any

from pitoolbox.privileged import checks, kernel
from pitoolbox.privileged.errors import RefusedError, StoppedError
from pitoolbox.privileged.policy import Policy, accept
from pitoolbox.privileged.work import Directory, Row, Work

SPARE_FILES = 64  # descriptors beside those of a batch


def ask(message: dict[str, Any]) -> Any:
    """Send a message; the answer to it. Ends the process when nobody answers any more."""
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
        line = sys.stdin.buffer.readline()
    except OSError:
        line = b""
    if not line.endswith(b"\n"):
        os._exit(0)  # at once: what is still to be written has no reader
    return json.loads(line)


def carry_out(work: Work, told: dict[str, Any]) -> str:
    """Do one piece of an order; `done` or `stopped`. Raises RefusedError on a malformed one."""
    try:
        if "entries" in told:
            work.entries([checks.plain_path(path) for path in checks.items(told["entries"])])
        elif "walk" in told:
            work.walk([Directory.heard(one) for one in checks.items(told["walk"])])
        else:
            to, rows = told["to"], [Row.heard(one) for one in checks.items(told["restore"])]
            if to not in ("before", "after"):
                raise RefusedError(f"{to!r} is no side of a change")
            work.restore(rows, to, written_down=told["written_down"] is True)
    except StoppedError:
        return "stopped"
    finally:
        work.forget()
    return "done"


def main() -> None:
    """Drop what is not needed, say so, and carry out orders until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the input ends it, between batches
    policy = Policy.heard(json.loads(sys.argv[1]))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        kernel.stand_in_descriptors()
        left = kernel.drop_privileges(policy.account, kernel.EXECUTOR_CAPS)
    except OSError as error:
        sys.exit(f"the privileged process does not start: {error.strerror}")
    kernel.die_with_parent()  # nothing is changed without who writes it down

    work: Work | None = None
    answer: dict[str, Any] = {"ready": left, "uid": os.geteuid()}
    while True:
        try:
            told = ask(answer)
            if "order" in told:
                if work is not None:
                    os.close(work.order.root)
                work = None
                work = Work(accept(policy, told["order"], bool(left)), ask, files - SPARE_FILES)
                answer = {"accepted": True}
            elif work is None:
                raise RefusedError("there is no order")
            else:
                answer = {"end": carry_out(work, told)}
        except RefusedError as refusal:
            answer = {"refused": str(refusal)}
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            answer = {"refused": f"a malformed order: {type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
