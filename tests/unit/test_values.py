"""Values behave as frozen dataclasses do."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from rollsafe._values import Value, field, fields
from rollsafe.schedule import Interval


class Point(Value):
    """A value for the tests."""

    x: int
    y: int = 2
    note: str = field(default="-", metadata={"shown": True})


class Place(Value):
    """Another one with the same fields."""

    x: int
    y: int = 2
    note: str = field(default="-", metadata={})


def test_arguments_are_positional_or_named_and_the_rest_have_defaults() -> None:
    assert (Point(1).x, Point(1).y, Point(1).note) == (1, 2, "-")
    assert Point(1, 2, "-") == Point(x=1) == Point(1, note="-")
    assert Point(1, 3) != Point(1)
    assert repr(Point(1, note="a")) == "Point(x=1, y=2, note='a')"


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, "a", 4), {}), ((1,), {"z": 1}), ((), {"y": 2, "z": 1})])
def test_other_arguments_are_refused(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Point has the fields x, y, note"):
        Point(*given, **named)


def test_a_value_is_equal_only_to_one_of_its_class_and_has_its_hash() -> None:
    assert Point(1) != Place(1)
    assert Point(1) != (1, 2, "-")
    assert {Point(1): "a"}[Point(1, 2)] == "a"
    assert len({Point(1), Point(1), Point(2)}) == 2


def test_a_value_does_not_change() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match=r"Point\.x cannot be changed"):
        point.x = 2  # type: ignore[misc]  # the test of that
    with pytest.raises(AttributeError, match=r"Point\.x cannot be removed"):
        del point.x
    assert point.replace(y=5) == Point(1, 5)
    assert point == Point(1)
    with pytest.raises(TypeError):
        point.replace(z=5)


def test_a_value_is_copied_and_pickled() -> None:
    interval = Interval(0.0, 3600.0, "1970-01-01_00", 0)
    assert pickle.loads(pickle.dumps(interval)) == copy.deepcopy(interval) == copy.copy(interval) == interval


def test_the_fields_have_order_type_default_and_metadata() -> None:
    assert [(each.name, each.type) for each in fields(Point)] == [("x", "int"), ("y", "int"), ("note", "str")]
    assert fields(Point)[2].metadata["shown"]
    assert Point(1).as_dict() == {"x": 1, "y": 2, "note": "-"}
    assert list(Point(note="a", x=1).as_dict()) == ["x", "y", "note"]
