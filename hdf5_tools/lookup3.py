"""Bob Jenkins' lookup3 hash, which HDF5 writes behind its metadata.

Source: https://burtleburtle.net/bob/c/lookup3.c (public domain), `hashlittle` with initval 0; HDF5
file format specification, "Checksum".
"""

_MASK = 0xFFFFFFFF


def _rotated(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def lookup3(data: bytes) -> int:
    """The 32-bit hash of `data`."""
    length = len(data)
    a = b = c = (0xDEADBEEF + length) & _MASK
    if length == 0:
        return c
    whole = (length - 1) // 12 * 12
    for at in range(0, whole, 12):
        a = (a + int.from_bytes(data[at : at + 4], "little")) & _MASK
        b = (b + int.from_bytes(data[at + 4 : at + 8], "little")) & _MASK
        c = (c + int.from_bytes(data[at + 8 : at + 12], "little")) & _MASK
        for first, second, third in ((4, 6, 8), (16, 19, 4)):
            a = ((a - c) & _MASK) ^ _rotated(c, first)
            c = (c + b) & _MASK
            b = ((b - a) & _MASK) ^ _rotated(a, second)
            a = (a + c) & _MASK
            c = ((c - b) & _MASK) ^ _rotated(b, third)
            b = (b + a) & _MASK
    a = (a + int.from_bytes(data[whole : whole + 4], "little")) & _MASK
    b = (b + int.from_bytes(data[whole + 4 : whole + 8], "little")) & _MASK
    c = (c + int.from_bytes(data[whole + 8 :], "little")) & _MASK
    c = ((c ^ b) - _rotated(b, 14)) & _MASK
    a = ((a ^ c) - _rotated(c, 11)) & _MASK
    b = ((b ^ a) - _rotated(a, 25)) & _MASK
    c = ((c ^ b) - _rotated(b, 16)) & _MASK
    a = ((a ^ c) - _rotated(c, 4)) & _MASK
    b = ((b ^ a) - _rotated(a, 14)) & _MASK
    return ((c ^ b) - _rotated(b, 24)) & _MASK
