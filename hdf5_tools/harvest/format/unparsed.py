"""What the parser raises."""


class Unparsed(Exception):
    """Damage, or a part of the format that this parser does not know: HDF5 is asked instead."""


class OneOfSeveral(Unparsed):
    """It is one of several files that make up one, by the family or split driver of HDF5."""
