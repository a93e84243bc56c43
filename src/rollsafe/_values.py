"""Values: objects that do not change, and are equal if their fields are.

They are what frozen dataclasses are, without their cost: `dataclasses` imports `inspect`, and both it and
`typing.NamedTuple` compile code for each class. That was half of what `import rollsafe` added to the start of a
process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_):
        """Only for type checkers; `typing` has it from Python 3.11 on."""
        return lambda cls: cls


_MISSING: Final = object()


class Field:
    """A field of a value that has more than a default.

    Attributes:
        name: Its name.
        default: Its default.
        metadata: What else its class says about it.
        type: Its annotation, as text.
    """

    __slots__ = ("default", "metadata", "name", "type")

    def __init__(self, default: object, metadata: Mapping[str, Any]) -> None:
        self.name = self.type = ""
        self.default = default
        self.metadata = metadata


def field(*, default: Any, metadata: Mapping[str, Any]) -> Any:
    """The default of a field that has metadata."""
    return Field(default, metadata)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value:
    """A value. The annotations of a class are its fields, in the order of the arguments; it has no further base."""

    _fields: ClassVar[dict[str, Field]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        """Read the fields of a class."""
        cls._fields = {}
        for name, kind in cls.__annotations__.items():
            default = cls.__dict__.get(name, _MISSING)
            described = default if isinstance(default, Field) else Field(default, {})
            described.name, described.type = name, kind
            cls._fields[name] = described
            if described is default:
                setattr(cls, name, described.default)
        cls._defaults = {name: each.default for name, each in cls._fields.items() if each.default is not _MISSING}

    def __init__(self, *given: Any, **named: Any) -> None:
        values = {**self._defaults, **dict(zip(self._fields, given, strict=False)), **named}
        if len(given) > len(self._fields) or values.keys() != self._fields.keys():
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self._fields)}")
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be removed")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple([getattr(self, name) for name in self._fields]))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({shown})"

    def replace(self, **changes: Any) -> Self:
        """The same value with some other fields."""
        return type(self)(**{**vars(self), **changes})

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, in order."""
        return {name: getattr(self, name) for name in self._fields}


def fields(kind: type[Value]) -> list[Field]:
    """The fields of a class of values, in order."""
    return list(kind._fields.values())
