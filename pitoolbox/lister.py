"""`datamgr perms lister`: the process that may read every directory, and do nothing else.

It has one capability (CAP_DAC_READ_SEARCH), no database and no network.
"""

import ctypes
import errno
import json
import logging
import os
from pathlib import Path

import click

from datamgr import daemon, identity, listening, logs
from datamgr.cli import options
from datamgr.config import Settings
from datamgr.errors import InvalidError, UnavailableError
from datamgr.line_server import LineServer
from pitoolbox import accounts, directory
from pitoolbox.directory import Rules
from pitoolbox.privileged import kernel
from pitoolbox.privileged.errors import RefusedError

log = logging.getLogger(__name__)

_INVALID = (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)


@click.command(name="lister")
@options.pass_settings
@click.pass_context
def command(ctx: click.Context, settings: Settings) -> None:
    """Show the web pages what is in the directories of projects, readable to them or not.

    A PI has to see what is to be put right, which often only its owner may read. This process may
    read every directory below `pitoolbox.roots` (CAP_DAC_READ_SEARCH) and do nothing else; who may
    see what is decided by those who ask it: root, the account that started it, and
    `pitoolbox.web_account`. Start it as root or by the systemd unit in deploy/; started by
    anybody else it reads what that account may read.

    SIGTERM or Ctrl-C stops it. The log is JSON lines on standard error.
    """
    logs.configure_logging(daemon=True, verbose=ctx.ensure_object(dict).get("verbose", False))
    section = settings.pitoolbox
    account, web = accounts.to_become(section), accounts.of_web(section)
    # Not whom it becomes: `nobody` is many a process.
    uids = frozenset({0, os.getuid()} | ({web[0]} if web else set()))
    gid = None if web is None else web[1]
    setting = "pitoolbox.lister_socket"
    with listening.unix_socket(settings.lister_socket, setting, mode=0o660, gid=gid) as listener:
        _warn_of_group(settings.lister_socket, gid)
        is_privileged = _drop(account)
        _say_what_it_may(settings, is_privileged)
        rules = Rules(
            roots=tuple(os.fsencode(root) for root in section.roots),
            privileged=is_privileged,
            max_names=section.max_names,
        )
        with daemon.stop_on_signals() as stop:
            log.info("lists directories, asked on %s", settings.lister_socket)
            LineServer(listener, uids, lambda _, line: answer(rules, line), _refusal).serve(stop)


def answer(rules: Rules, line: bytes) -> bytes:
    """What is said to one line, whatever it is."""
    try:
        return json.dumps(directory.page(rules, json.loads(line))).encode()
    except RefusedError as refusal:
        return _refusal(str(refusal))
    except OSError as error:
        return _failure(error)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return _refusal(f"a malformed question: {type(error).__name__}")
    except Exception:
        log.exception("an internal error")
        return _refusal("internal error of the lister, see its log", "unavailable")


def _failure(error: OSError) -> bytes:
    if error.errno == errno.ENOENT:
        return _refusal("it is not there", "missing")
    if error.errno == errno.EXDEV:
        return _refusal("something else is mounted there", "invalid")
    if error.errno == errno.ENOTDIR:
        return _refusal("it is no directory; symbolic links are not followed", "invalid")
    if error.errno in _INVALID:
        return _refusal(kernel.reason(error), "invalid")
    if error.errno in (errno.EACCES, errno.EPERM):
        return _refusal(f"the lister may not read it: {kernel.reason(error)}", "denied")
    return _refusal(kernel.reason(error), "unavailable")


def _refusal(sentence: str, kind: str = "invalid") -> bytes:
    return json.dumps({"refused": sentence, "kind": kind}).encode()


def _drop(account: tuple[int, int] | None) -> bool:
    """Keep the one capability at most; whether it is there. Call it before any thread starts."""
    prctl = ctypes.CDLL(None).prctl
    before = ctypes.c_int()
    prctl(2, ctypes.byref(before), 0, 0, 0)  # PR_GET_PDEATHSIG
    try:
        left = kernel.drop_privileges(account, (kernel.CAP_DAC_READ_SEARCH,))
    except OSError as error:
        raise UnavailableError(f"privileges cannot be dropped: {error.strerror}") from error
    # It is nobody's child but a supervisor's, which asks for its own signal; a shell asks none.
    prctl(1, before.value, 0, 0, 0)  # PR_SET_PDEATHSIG
    return bool(left)


def _say_what_it_may(settings: Settings, is_privileged: bool) -> None:
    if is_privileged and not settings.pitoolbox.roots:
        raise InvalidError(
            "a privileged lister needs to know where projects lie; set pitoolbox.roots, "
            'such as ["/global/cfs"]'
        )
    if not is_privileged:
        log.warning(
            "without the rights of a privileged lister: only what %s may read is listed",
            identity.username_of(os.geteuid()),
        )


def _warn_of_group(path: Path, gid: int | None) -> None:
    if gid is not None and path.stat().st_gid != gid:
        log.warning(
            "the socket belongs to group %s, which the web account needs to be in",
            identity.group_name_of(path.stat().st_gid),
        )
