"""The five ways in which datamgr says no; the command line and the API translate them."""


class DatamgrError(Exception):
    """A failure that the user can act on; its message is one sentence.

    `exit_code` is what a command ends with, `status` what the API answers (RFC 9457).
    """

    exit_code = 1
    status = 500
    title = "Failed"


class NotFoundError(DatamgrError):
    """The named thing does not exist."""

    exit_code = 3
    status = 404
    title = "Not found"


class InvalidError(DatamgrError):
    """The input cannot be accepted as it is."""

    exit_code = 4
    status = 422
    title = "Invalid input"


class ForbiddenError(DatamgrError):
    """The caller may not do this."""

    exit_code = 5
    status = 403
    title = "Not allowed"


class ConflictError(DatamgrError):
    """The present state does not permit it now."""

    exit_code = 6
    status = 409
    title = "Conflict"


class UnavailableError(DatamgrError):
    """Something needed (database, disk space, program) does not answer."""

    exit_code = 7
    status = 503
    title = "Unavailable"


class TooManyError(UnavailableError):
    """It was asked for too often."""

    status = 429
    title = "Too often"
