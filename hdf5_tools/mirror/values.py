"""Types and attributes as they travel in JSON."""

import base64
from typing import Any

import h5py
import numpy as np

from datamgr.errors import InvalidError

_KINDS = "biufcS"


def write_dtype(dtype: np.dtype[Any]) -> str:
    """A type as text.

    Raises:
        InvalidError: it is neither a number nor bytes of a fixed length.
    """
    if dtype.kind not in _KINDS or dtype.subdtype is not None:
        raise InvalidError(f"a stream takes numbers and bytes of a fixed length, not {dtype}")
    return dtype.str


def read_dtype(text: Any) -> np.dtype[Any]:
    """The type that `write_dtype` wrote.

    Raises:
        InvalidError: it wrote no such thing.
    """
    try:
        dtype = np.dtype(str(text))
    except TypeError as error:
        raise InvalidError(f"there is no type {text!r:.40}") from error
    write_dtype(dtype)
    return dtype


def attribute(path: str, name: str, value: Any) -> dict[str, Any]:
    """An attribute of the object at `path`: a text, or an array or scalar of numbers.

    Raises:
        InvalidError: it is something else.
    """
    if isinstance(value, str):
        return {"path": path, "name": name, "text": value}
    array = np.asarray(value)
    return {
        "path": path,
        "name": name,
        "dtype": write_dtype(array.dtype),
        "shape": list(array.shape),
        "data": base64.b64encode(array.tobytes()).decode("ascii"),
    }


def put_attribute(file: h5py.File, asked: dict[str, Any]) -> None:
    """Set an attribute that `attribute` described.

    Raises:
        InvalidError: its object is not there, or it makes no sense.
    """
    try:
        node = file[str(asked["path"])]
        if "text" in asked:
            node.attrs[str(asked["name"])] = str(asked["text"])
            return
        data = base64.b64decode(asked["data"], validate=True)
        array = np.frombuffer(data, read_dtype(asked["dtype"]))
        node.attrs[str(asked["name"])] = array.reshape([int(n) for n in asked["shape"]])
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidError(f"an attribute makes no sense: {error}") from error
