"""What can be asked of the daemon of managed roots: known to both ends, and light to import."""

from enum import StrEnum

MAX_QUESTION_BYTES = 4 << 20
MAX_PATHS = 20_000  # of one request
MAX_FILES = 10_000  # whose states are asked at once


class Action(StrEnum):
    """What can be done to files."""

    PUT = "put"
    STAGE = "stage"
    PUNCH = "punch"
    PIN = "pin"
    UNPIN = "unpin"
    LOCK = "lock"
    UNLOCK = "unlock"
    VERIFY = "verify"
    UNDELETE = "undelete"
    RECONCILE = "reconcile"
    SCRUB = "scrub"
    EXPIRE = "expire"


# About a whole root, and for those who run it.
UPKEEP = (Action.RECONCILE, Action.SCRUB, Action.EXPIRE)
