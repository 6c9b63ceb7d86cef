"""Attribute messages to attributes: nearly all have been met before, but for the values."""

import struct
from typing import Any

from hdf5_tools.harvest.format import attribute
from hdf5_tools.harvest.format.attribute import Decoded, Plan
from hdf5_tools.harvest.format.file import File
from hdf5_tools.harvest.format.unparsed import Unparsed

# What is remembered, so that a hostile file cannot fill the memory with it.
_MOST_PLANS, _MOST_TEMPLATES = 20_000, 2_000
_BYTES_OF_A_PLAN = 1024
_TEMPLATES_OF_A_KIND, _ATTRIBUTES_OF_A_TEMPLATE, _BYTES_OF_A_TEMPLATE = 4, 64, 4096


class Decoder:
    """For files whose addresses and lengths have one size. It keeps a plan for each attribute with
    other values, and a template for each set of attributes of an object.
    """

    def __init__(self) -> None:
        self._starts: dict[bytes, int] = {}
        self._plans: dict[bytes, Plan] = {}
        self._templates: dict[tuple[int, ...], list[_Template]] = {}

    def decode(self, file: File, bodies: list[bytes]) -> tuple[list[Any], bool]:
        """The attributes of the bodies of messages, in the order of names; whether all are
        finished, with a form.

        Raises:
            Unparsed: damage.
        """
        if not bodies:
            return [], True
        if len(bodies) > _ATTRIBUTES_OF_A_TEMPLATE:
            return self._decode_each(file, bodies)[:2]
        lengths = tuple(map(len, bodies))
        whole = b"".join(bodies)
        templates = self._templates.get(lengths)
        if templates:
            number = int.from_bytes(whole, "little")
            for template in templates:
                if number & template.mask == template.pattern:
                    return template.decode(file, whole), template.is_finished
        decoded, is_finished, plans = self._decode_each(file, bodies)
        if templates is None:  # a template is made when something like it comes again
            if len(self._templates) >= _MOST_TEMPLATES:
                self._templates.clear()
            self._templates[lengths] = []
        elif len(templates) < _TEMPLATES_OF_A_KIND and _is_worth_it(whole, plans):
            templates.append(_Template(whole, lengths, plans))
        return decoded, is_finished

    def _decode_each(self, file: File, bodies: list[bytes]) -> tuple[list[Any], bool, list[Plan]]:
        plans = [self._plan(file, body) for body in bodies]
        found: dict[bytes, Decoded] = {}
        is_finished = True
        for plan, body in zip(plans, bodies, strict=True):
            values: Any = plan.unpack(body, plan.start)
            if plan.make is not None:
                values = plan.make(file, values)
                is_finished = is_finished and plan.form is not None
            found[plan.name] = plan.name, plan.form, values
        if len(found) < len(plans):
            raise Unparsed("an attribute comes twice")
        return [found[name] for name in sorted(found)], is_finished, plans

    def _plan(self, file: File, body: bytes) -> Plan:
        start = self._starts.get(body[:8])
        if start is None:
            start = attribute.start_of_values(body)
            if len(self._starts) >= _MOST_PLANS:
                self._starts.clear()
            self._starts[body[:8]] = start
        # What is said of another place is true of this file only.
        plans = self._plans if start > 0 else file.plans
        head = body[: abs(start)]
        found = plans.get(head)
        if found is None:
            if len(plans) >= _MOST_PLANS:
                plans.clear()
            found = attribute.plan(file, head, is_lasting=start > 0)
            if len(head) <= _BYTES_OF_A_PLAN:
                plans[head] = found
        if found.end > len(body):
            raise Unparsed("an attribute is cut short")
        return found


def _is_worth_it(whole: bytes, plans: list[Plan]) -> bool:
    return len(whole) <= _BYTES_OF_A_TEMPLATE and all(plan.is_lasting for plan in plans)


class _Template:
    """What the messages of an object have in common with those of others, but for the values.

    They are alike where `mask` has ones and `pattern` says what: a comparison of two large numbers.
    """

    __slots__ = ("_steps", "_unpack", "is_finished", "mask", "pattern")

    def __init__(self, whole: bytes, lengths: tuple[int, ...], plans: list[Plan]) -> None:
        masks, fields, steps = [], [], []
        position = 0
        for length, plan in zip(lengths, plans, strict=True):
            masks.append(b"\xff" * plan.start + b"\0" * (length - plan.start))
            fields.append(f"{plan.start}x{plan.fields}{length - plan.end}x")
            count = len(struct.unpack(f"<{plan.fields}", bytes(plan.end - plan.start)))
            steps.append((plan.name, plan.form, position, position + count, plan.make))
            position += count
        self.mask = int.from_bytes(b"".join(masks), "little")
        self.pattern = self.mask & int.from_bytes(whole, "little")
        self.is_finished = all(plan.form is not None for plan in plans)
        self._unpack = struct.Struct("<" + "".join(fields)).unpack
        self._steps = sorted(steps, key=lambda step: step[0])

    def decode(self, file: File, whole: bytes) -> list[Decoded]:
        """The attributes of messages that fit."""
        values = self._unpack(whole)
        return [
            (name, form, values[i:j] if make is None else make(file, values[i:j]))
            for name, form, i, j, make in self._steps
        ]
