"""Why an order, an entry or the work on it comes to an end."""


class RefusedError(Exception):
    """An order that is not carried out; the sentence says why."""


class SkippedError(Exception):
    """An entry that the policy leaves alone; the text is its reason."""


class UnlikeError(Exception):
    """The kernel took a change and made something else of it."""


class StoppedError(Exception):
    """The other side asked to stop."""
