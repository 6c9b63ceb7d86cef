"""How a process reports what it does: text for commands, JSON lines for daemons."""

import json
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message and what `extra=` carried."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record; exceptions become one string with their traceback."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(*, daemon: bool, verbose: bool = False) -> None:
    """Send the log to standard error; called once by the entry point."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if daemon else logging.Formatter("%(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    normal = logging.INFO if daemon else logging.WARNING
    root.setLevel(logging.DEBUG if verbose else normal)
    # Which plugins it has is no news to an operator.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
