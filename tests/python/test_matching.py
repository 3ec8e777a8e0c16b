"""The pattern language itself: it must be able to say no."""

import pytest

from matching import mismatches


@pytest.mark.parametrize(
    "pattern, value",
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": "<absent>"}, {"b": 2}),
        (["<number>", "..."], [1, 2.5]),
        ("<number|null>", None),
        ("<contains: ell>", "hello"),
        (0, 0.0),
        ({"...": False}, {}),
    ],
)
def test_matches(pattern, value):
    assert mismatches(pattern, value) == []


@pytest.mark.parametrize(
    "pattern, value",
    [
        ({"a": 1}, {}),
        ({"a": 1}, {"a": 2}),
        ({"a": "<absent>"}, {"a": None}),
        ({"...": False}, {"a": 1}),
        (["<number>", "..."], []),
        (["<number>", "..."], [1, "x"]),
        ([1], [1, 2]),
        ("<text>", ""),
        ("<number>", True),
        (True, 1),
        ("<contains: x>", "hello"),
        ("<nonsense>", 1),
        ({}, "text"),
    ],
)
def test_does_not_match(pattern, value):
    assert mismatches(pattern, value)
