"""A segment: files with their objects and attributes, mapped, never changed; its look-ups."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hdf5_tools.harvest.records import Form, Value
from hdf5_tools.index import container, manifest
from hdf5_tools.index.assemble import NUMBERS
from hdf5_tools.index.columns import TEXT, parse_form
from hdf5_tools.index.manifest import Entry
from hdf5_tools.index.numbers import Numbers
from hdf5_tools.index.sets import either, unique, without
from hdf5_tools.index.strings import Known, Table
from hdf5_tools.index.texts import NOTHING, Texts

Array = npt.NDArray[Any]

_FEW = 24  # objects, up to which Python's own loop is the fastest


class Segment:
    """One mapped file.

    `dead`: numbers of its files that another segment has a newer version of, or that are gone.
    """

    @classmethod
    def of(cls, folder: Path, entry: Entry) -> "Segment":
        """One that an index names.

        Raises:
            FileNotFoundError: it is not there (any more).
            InvalidError: it is damaged.
            ForbiddenError: this account may not read it.
        """
        try:
            dead = None if entry.dead is None else np.load(folder / entry.dead)
        except (ValueError, EOFError) as error:
            raise container.damaged(folder / str(entry.dead), "is damaged") from error
        except PermissionError as error:
            raise manifest.may_not_be_read(folder) from error
        try:
            return cls(folder / entry.segment, dead)
        except PermissionError as error:
            raise manifest.may_not_be_read(folder) from error

    def __init__(self, path: Path, dead: Array | None = None) -> None:
        self._mapped, self._begins, self.arrays = container.read(path)
        self.files = self._table("file")
        self.paths = self._table("path")
        self.forms = self._table("form")
        self.names = self._table("name")
        self.texts = self._table("text", 1)
        self.reasons = self._table("reason")
        self._attribute_forms_known = Known(self._table("attribute_form_text"))
        self._files_known, self._paths_known = Known(self.files), Known(self.paths)
        self._forms_known, self._names_known = Known(self.forms), Known(self.names)
        self._texts: dict[int, Texts] = {}
        self._found: dict[bytes, int | None] = {}
        self._file_of = self.arrays["object_file"].data
        self._path_of = self.arrays["object_path"].data
        self._numbers: dict[int, list[Numbers]] = {}
        self._units: dict[bytes, dict[str, Array]] = {}
        self._dead = dead if dead is not None and len(dead) else None

    @property
    def objects(self) -> int:
        """How many there are, dead ones too."""
        return len(self.arrays["object_file"])

    @cached_property
    def alive(self) -> Array | None:
        """Which objects are; None: all."""
        if self._dead is None:
            return None
        return ~np.isin(self.arrays["object_file"], self._dead)

    @property
    def files_alive(self) -> Array:
        """Which files are."""
        alive = np.ones(len(self.files), bool)
        if self._dead is not None:
            alive[self._dead] = False
        return alive

    def name(self, wanted: bytes) -> int | None:
        """The number of an attribute's name."""
        try:
            return self._found[wanted]
        except KeyError:
            found = self._found[wanted] = self.names.find(wanted)
            return found

    def is_single(self, name: int) -> bool:
        """Whether no object has two values of this name."""
        return bool(self.arrays["name_single"][name])

    def having(self, name: int) -> Array:
        """The objects with an attribute of this name, ascending."""
        objects = self._of(name, "has_first", "has_object")
        return objects if self.is_single(name) else unique(objects)

    def texts_of(self, name: int) -> Texts:
        """The texts of a name."""
        found = self._texts.get(name)
        if found is None:
            begin, single = self._begins["text_bytes"], self.is_single(name)
            found = Texts(self._mapped, begin, self.arrays, name, single=single)
            self._texts[name] = found
        return found

    def numbers_of(self, name: int) -> list[Numbers]:
        """The numbers of a name, in each column that has some."""
        known = self._numbers.get(name)
        if known is None:
            known = self._numbers[name] = []
            for column, _ in NUMBERS.values():
                values = self._of(name, f"{column}_first", f"{column}_value")
                if len(values):
                    objects = self._of(name, f"{column}_first", f"{column}_object")
                    known.append(Numbers(values, objects))
        return known

    def units_of(self, name: bytes) -> dict[str, Array]:
        """The units of an attribute's numbers, each with the objects that name it, ascending.

        They stand in the attribute NAME_units of the same object or else in its `units`.
        """
        known = self._units.get(name)
        if known is None:
            known = self._units[name] = {}
            having = NOTHING
            for number in (self.name(name + b"_units"), self.name(b"units")):
                if number is None:
                    continue
                for text, found in self.texts_of(number).listed():
                    unit = text.decode("utf-8", "replace").strip()
                    of = without(found, having)
                    known[unit] = either(known.get(unit, NOTHING), of)
                having = self.having(number)
        return known

    def paths_of(self, objects: Array) -> list[tuple[bytes, bytes]]:
        """File and path of each object."""
        files, paths = self._files_known, self._paths_known
        if len(objects) <= _FEW:
            of, at = self._file_of, self._path_of
            return [(files[of[n]], paths[at[n]]) for n in objects.tolist()]
        of_each = self.arrays["object_file"].take(objects)
        at_each = self.arrays["object_path"].take(objects)
        return list(zip(files.take(of_each), paths.take(at_each), strict=True))

    def form_of(self, number: int) -> Form:
        """Type and shape of an object."""
        return self.form_of_text(int(self.arrays["object_form"][number]))

    def form_of_text(self, form: int) -> Form:
        """The form of a number in `object_form`."""
        return parse_form(self._forms_known[form])

    def attributes_of(self, number: int) -> dict[bytes, tuple[Form, tuple[Value, ...]]]:
        """Every attribute of an object, with its form and values."""
        arrays = self.arrays
        low, high = arrays["attribute_first"][number : number + 2].tolist()
        return {
            self._names_known[int(arrays["attribute_name"][a])]: (
                parse_form(self._attribute_forms_known[int(arrays["attribute_form"][a])]),
                self._values(a),
            )
            for a in range(low, high)
        }

    def values_of(self, number: int, name: bytes) -> tuple[Value, ...] | None:
        """The values of an attribute; None if the object does not have it."""
        wanted, arrays = self.name(name), self.arrays
        if wanted is None:
            return None
        low, high = arrays["attribute_first"][number : number + 2].tolist()
        at = low + int(np.searchsorted(arrays["attribute_name"][low:high], wanted))
        if at == high or arrays["attribute_name"][at] != wanted:
            return None
        return self._values(at)

    def _values(self, attribute: int) -> tuple[Value, ...]:
        arrays = self.arrays
        low, high = arrays["value_first"][attribute : attribute + 2].tolist()
        columns = arrays["value_column"][low:high].tolist()
        references = arrays["value_reference"][low:high].tolist()
        values: list[Value] = []
        for column, reference in zip(columns, references, strict=True):
            if column == TEXT:
                values.append(self.texts[reference])
            else:
                values.append(arrays[f"{NUMBERS[column][0]}_value"][reference].item())
        return tuple(values)

    def _of(self, name: int, first: str, values: str) -> Array:
        low, high = self.arrays[first][name : name + 2]
        return self.arrays[values][low:high]

    def _table(self, name: str, gap: int = 0) -> Table:
        begin, first = self._begins[f"{name}_bytes"], self.arrays[f"{name}_first"]
        return Table(self._mapped, begin, first, gap)
