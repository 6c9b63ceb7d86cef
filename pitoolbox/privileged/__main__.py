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
from pitoolbox.privileged.work import BATCH_ROWS, Work

MAX_PATHS = 10_000  # in one message


def carry_out(work: Work, told: dict[str, Any]) -> str:
    """Do one piece of an order; `done` or `stopped`. Raises RefusedError on a malformed one."""
    try:
        if "entries" in told:
            work.entries([checks.plain_path(path) for path in told["entries"][:MAX_PATHS]])
        elif "walk" in told:
            work.walk([(checks.plain_path(path), *rest) for path, *rest in told["walk"]])
        else:
            to, rows = told["to"], told["restore"]
            if to not in ("before", "after"):
                raise RefusedError(f"{to!r} is no side of a change")
            work.restore(rows, to, written_down=told["written_down"] is True)
    except StoppedError:
        return "stopped"
    return "done"


def main() -> None:
    """Drop what is not needed, say so, and carry out orders until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the input ends it, between batches
    policy = Policy.heard(json.loads(sys.argv[1]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * BATCH_ROWS)), hard))
    left = kernel.drop_privileges(policy.account, kernel.EXECUTOR_CAPS)

    def ask(message: dict[str, Any]) -> Any:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        return json.loads(line)

    work: Work | None = None
    told = ask({"ready": left, "uid": os.geteuid()})
    while True:
        try:
            if "order" in told:
                if work is not None:
                    os.close(work.order.root)
                work = None
                work = Work(accept(policy, told["order"], bool(left)), ask)
                told = ask({"accepted": True})
            elif work is None:
                raise RefusedError("there is no order")
            else:
                told = ask({"end": carry_out(work, told)})
        except RefusedError as refusal:
            told = ask({"refused": str(refusal)})
        except (KeyError, TypeError, ValueError) as error:
            told = ask({"refused": f"a malformed order: {type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
