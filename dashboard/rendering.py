"""Templates, how values appear in them, and the files they refer to."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata, resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from datamgr import db, display, units
from scanners import ages

Show = Callable[[Any], str]

# Which have templates and static files of their own; names of files are used once.
PACKAGES = ("dashboard", "pitoolbox", "tiering")


@dataclass(frozen=True)
class Section:
    """A part of the site: where it begins, what it is called, which other addresses are its."""

    address: str
    words: str
    others: tuple[str, ...] = ()
    is_for_staff: bool = False

    def holds(self, address: str) -> bool:
        """Whether an address belongs to it."""
        return address == self.address or address.startswith(self.others)


SECTIONS = (
    Section("/", "Usage", ("/usage", "/browse")),
    Section("/perms", "Permissions", ("/perms/",)),
    Section("/tiering", "Tiering", ("/tiering/",)),
    Section("/hdf5", "HDF5"),
    Section("/operations", "Operations", is_for_staff=True),
)
STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page(template: str, values: Mapping[str, Any]) -> str:
    """The page, as HTML."""
    return _environment().get_template(template).render(values)


@functools.cache
def static_files() -> Mapping[str, bytes]:
    """The contents of the folders `static` by name."""
    return {
        file.name: file.read_bytes()
        for package in PACKAGES
        if (resources.files(package) / "static").is_dir()
        for file in (resources.files(package) / "static").iterdir()
        if file.name.endswith(tuple(STATIC_TYPES))
    }


@functools.cache
def static_version() -> str:
    """Changes with any of the static files, so that browsers may keep them for ever."""
    digest = hashlib.sha256()
    for name, content in sorted(static_files().items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        # The pages of features stand in the frame of these.
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in PACKAGES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": ago,
        "bytes": _unbroken(units.format_bytes),
        "count": _unbroken(units.format_count),
        "age": _unbroken(age),
        "name": name,
        "path": path,
        "percent": percent,
        "plain": display.printable,
        "span": _unbroken(span),
        "signed_bytes": lambda value: _signed(value, units.format_bytes),
        "signed_count": lambda value: _signed(value, units.format_count),
        "time": units.format_time,
    }
    environment.globals |= {
        "sections": lambda visitor: [
            part for part in SECTIONS if visitor.caller.is_staff or not part.is_for_staff
        ],
        "static": lambda file: f"/static/{static_version()}/{file}",
        "version": metadata.version("datamgr"),
    }
    return environment


def name(value: str | bytes) -> Markup:
    """A name of anybody's choice: escaped, and its direction kept from what stands around it."""
    return Markup(f"<bdi>{escape(display.printable(value))}</bdi>")


def path(value: str | bytes) -> Markup:
    """A path that may be broken after each slash, and is safe as `name` is."""
    # What escaping makes of a text has no slashes of its own.
    shown = str(escape(display.printable(value))).replace("/", "/<wbr>")
    return Markup(f"<bdi>{shown}</bdi>")


def percent(value: float | None) -> str:
    """A percentage, with a decimal only where it tells something; a dash for None."""
    if value is None:
        return "–"
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99 < value < 100:  # rounding must not fill a quota, nor hide that it is exceeded
        value = min(value, 99.94)
    if 100 < value < 101:
        value = max(value, 100.1)
    return f"{value:.1f} %" if value < 10 or 99 < value < 101 else f"{value:.0f} %"


def age(age_s: float | None) -> str:
    """An age at the scan; files may well change while it runs, which is no time in the future."""
    if age_s is not None and -ages.DAY_S < age_s < 60:
        return "new"
    return units.format_age(age_s)


def span(span_s: float) -> str:
    """How long something took."""
    if span_s < 60:
        return f"{span_s:.1f} s"
    minutes, seconds = divmod(round(span_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def ago(when: datetime) -> str:
    """How long ago a time was."""
    age_s = (db.utc_now() - when).total_seconds()
    return "just now" if age_s < 60 else f"{units.format_age(age_s)} ago"


def _signed(value: int, show: Show) -> str:
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return sign + _unbroken(show)(abs(value))


def _unbroken(show: Show) -> Show:
    """The same text with spaces at which no line breaks."""

    @functools.wraps(show)
    def unbroken(value: Any) -> str:
        return show(value).replace(" ", "\N{NO-BREAK SPACE}")

    return unbroken
