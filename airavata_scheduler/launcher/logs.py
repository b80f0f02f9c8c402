"""Log files of the launcher: one line of JSON a record, rotated; and plain files for what other programs print."""

from __future__ import annotations

import json
import logging
import logging.handlers
import time
from pathlib import Path
from typing import IO

_FILE_BYTES = 5_000_000
_KEPT_FILES = 3
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Time (UTC), level, event, and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"at": f"{at}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "event": record.getMessage()}
        line |= {key: value for key, value in vars(record).items() if key not in _RECORD_FIELDS}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def structured_logger(name: str, path: Path, level: str) -> logging.Logger:
    """A logger that writes JSON lines to `path`, which is rotated; nothing goes to the console."""
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=_FILE_BYTES, backupCount=_KEPT_FILES, encoding="utf-8"
    )
    handler.setFormatter(JsonLines())
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
    return logger


def open_log(path: Path) -> IO[bytes]:
    """A file for a program's output, to append to; a large one is rotated first, as the program itself cannot."""
    if path.exists() and path.stat().st_size > _FILE_BYTES:
        for number in range(_KEPT_FILES - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def tail(path: Path, lines: int = 15, limit_bytes: int = 8192) -> str:
    """The last lines of a file, or a note that there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - limit_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log was written)"
    return "\n".join(text.splitlines()[-lines:])
