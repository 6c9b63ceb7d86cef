"""Where `datamgr.toml` is and what stands in it, before the model of the settings is loaded.

The model takes longer to import than most commands that ask a daemon take as a whole.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from datamgr.errors import InvalidError, NotFoundError

ENVIRONMENT_PREFIX = "DATAMGR_"
SYSTEM_CONFIG = Path("/etc/datamgr/datamgr.toml")
TIER_SOCKET = "tier.sock"


def absolute(value: object) -> Path:
    """A path with `~` and the working directory resolved."""
    return Path(str(value)).expanduser().absolute()


def default_state_dir() -> Path:
    """`/var/lib/datamgr` for root, else `$XDG_STATE_HOME/datamgr`.

    Source: FHS 3.0 section 5.8; XDG Base Directory Specification 0.8.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/datamgr")
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return absolute(base) / "datamgr"


def find_config(explicit: str | None) -> Path | None:
    """The configuration file in force: `--config`, `DATAMGR_CONFIG`, the user's, the system's.

    Raises:
        NotFoundError: a file named explicitly is not there.
        InvalidError: it may not be looked at.
    """
    named = explicit or os.environ.get("DATAMGR_CONFIG")
    if named:
        path = absolute(named)
        try:
            found = path.is_file()
        except OSError as error:
            raise InvalidError(f"{path} cannot be read: {error.strerror}") from error
        if not found:
            raise NotFoundError(f"the configuration file {path} does not exist")
        return path
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    for path in (absolute(base) / "datamgr" / "datamgr.toml", SYSTEM_CONFIG):
        if _is_file(path):
            return path
    return None


def read(path: Path | None) -> dict[str, Any]:
    """The values in a configuration file as they were written; none without a file.

    Raises:
        InvalidError: it is no TOML, or cannot be read.
    """
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path} is no valid TOML: {error}") from error
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from error


def tier_socket(explicit: str | None) -> Path | None:
    """As `Settings.tier_socket`; None where the model alone can tell it.

    Raises:
        NotFoundError, InvalidError: as `find_config` and `read`.
    """
    values = read(find_config(explicit))
    decisive = (f"{ENVIRONMENT_PREFIX}TIERING", f"{ENVIRONMENT_PREFIX}STATE_DIR")
    tiering, state_dir = values.get("tiering", {}), values.get("state_dir")
    if any(name.upper().startswith(decisive) for name in os.environ):
        return None
    if not isinstance(tiering, dict) or not isinstance(state_dir, str | None):
        return None
    socket = tiering.get("socket")
    if socket is not None:
        return absolute(socket) if isinstance(socket, str) else None
    folder = default_state_dir() if state_dir is None else absolute(state_dir)
    return folder / TIER_SOCKET


def _is_file(path: Path) -> bool:
    """Whether it is; a place that may not be looked at, as somebody else's home, has none."""
    try:
        return path.is_file()
    except OSError:
        return False
