"""Which worker runs which tests: a file as a whole, and as one whole what shares a Spark."""

from xdist.scheduler import LoadFileScheduling

_SPARK = tuple(
    f"tests/integration/scanners_spark/test_{part}.py" for part in ("equality", "kills", "walk")
)


class ByResource(LoadFileScheduling):
    """In the order of the tests, so that the small files of unit tests even out the end."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "Spark" if file in _SPARK else file
