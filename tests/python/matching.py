"""Replies against the patterns of `contract/` (see its README). `mismatches` gives what differs, one line for each place."""

import datetime
import re
import time
import uuid

ABSENT = "<absent>"


def _uuid(value) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except (ValueError, AttributeError, TypeError):
        return False


def _iso(value) -> bool:
    try:
        return isinstance(value, str) and "T" in value and bool(datetime.datetime.fromisoformat(value))
    except ValueError:
        return False


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


KINDS = {
    "any": lambda value: True,
    "number": _number,
    "string": lambda value: isinstance(value, str),
    "text": lambda value: isinstance(value, str) and value != "",
    "bool": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
    "uuid": _uuid,
    "timestamp": lambda value: _number(value) and abs(value - time.time()) < 86_400,
    "iso": _iso,
}


def mismatches(pattern, value, place: str = "reply") -> list[str]:
    if isinstance(pattern, dict):
        return _object(pattern, value, place)
    if isinstance(pattern, list):
        return _array(pattern, value, place)
    if isinstance(pattern, str) and (placeholder := re.fullmatch(r"<(.+)>", pattern)):
        return _placeholder(placeholder[1], value, place)
    same_kind = isinstance(pattern, bool) == isinstance(value, bool)
    return [] if same_kind and pattern == value else [f"{place}: {value!r}, not {pattern!r}"]


def _object(pattern: dict, value, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place}: {value!r}, not an object"]
    found = []
    for key, wanted in pattern.items():
        if key == "...":
            continue
        if wanted == ABSENT:
            found += [f"{place}.{key}: is there"] if key in value else []
        elif key not in value:
            found.append(f"{place}.{key}: missing")
        else:
            found += mismatches(wanted, value[key], f"{place}.{key}")
    if pattern.get("...") is False:
        found += [f"{place}.{key}: not expected" for key in value if key not in pattern]
    return found


def _array(pattern: list, value, place: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{place}: {value!r}, not an array"]
    if len(pattern) == 2 and pattern[1] == "...":
        found = [] if value else [f"{place}: empty"]
        patterns = [pattern[0]] * len(value)
    else:
        found = [] if len(value) == len(pattern) else [f"{place}: {len(value)} elements, not {len(pattern)}"]
        patterns = pattern
    for index, (wanted, element) in enumerate(zip(patterns, value)):
        found += mismatches(wanted, element, f"{place}[{index}]")
    return found


def _placeholder(name: str, value, place: str) -> list[str]:
    if name.startswith("contains: "):
        part = name.removeprefix("contains: ")
        return [] if isinstance(value, str) and part in value else [f"{place}: {value!r} does not contain {part!r}"]
    kinds = name.split("|")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        return [f"{place}: the pattern has no placeholder <{unknown[0]}>"]
    return [] if any(KINDS[kind](value) for kind in kinds) else [f"{place}: {value!r} is no <{name}>"]
