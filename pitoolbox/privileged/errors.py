"""Why an order, an entry or the work on it comes to an end."""


class RefusedError(Exception):
    """An order that is not carried out; the sentence says why."""


class SkippedError(Exception):
    """An entry that the policy leaves alone; the text is its reason."""


class FailedError(Exception):
    """An entry that is not what it has to be, before or after its change; the text says why."""


class StoppedError(Exception):
    """The other side asked to stop."""
