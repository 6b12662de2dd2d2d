"""A message as a class: each field is declared once, with kind and bounds. One reader refuses all else, one writer keeps order.

    @dataclass(frozen=True)
    class Confirmation(Message):
        signature: bytes = field(metadata=raw())

A field with a default may be left out, and is, where it has that value. What a message says beside its fields is left unread:
newer versions may say more.
"""

from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Tuple, Type, TypeVar

from orchestrator.errors import WireError
from orchestrator.wire.plain import plain, run_name

MOST_WHOLE = (1 << 63) - 1
"""As large as whole numbers on the wire are."""

LARGEST = 1e15
"""A number beyond it is not of this world, and no reader of ours has to compute with it."""

_READS, _ALWAYS = "reads", "always"
Reads = Callable[[Any, str], Any]
"""(value, where it stood) -> the value as it is used; raises WireError."""

Kind = Mapping[str, Any]
"""What a field's metadata say of it."""

M = TypeVar("M", bound="Message")


@dataclass(frozen=True)
class Message:
    """All of a body's header that one party means by it, or a part of that."""

    KIND: ClassVar[str] = ""
    """Written as the first field; empty where another class writes it, or none."""

    @classmethod
    def read(cls: Type[M], header: Mapping[str, Any], where: str = "") -> M:
        """WireError, naming the field, for one that is missing, of another kind or out of bounds. where: the place of a part."""
        where = where or f"message of kind {plain(repr(header.get('kind')), 40)}"
        found: Dict[str, Any] = {}
        for each in fields(cls):
            if each.name in header:
                found[each.name] = each.metadata[_READS](header[each.name], f"{where}: field {each.name!r}")
            elif not _may_be_left_out(each):
                raise WireError(f"{where} came without {each.name!r}")
        return cls(**found)

    def written(self) -> Dict[str, Any]:
        """The fields in their order, as plain data."""
        header: Dict[str, Any] = {"kind": self.KIND} if self.KIND else {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.metadata.get(_ALWAYS) or not _may_be_left_out(each) or value != _left_out(each):
                header[each.name] = _plain(value)
        return header


def always(kind: Kind) -> Kind:
    """Of a field that is written whatever its value, though older versions may leave it out."""
    return {**kind, _ALWAYS: True}


def whole(least: int = 0, most: int = MOST_WHOLE) -> Kind:
    """A whole number within bounds."""
    expected = "int"
    if most < MOST_WHOLE:
        expected += f" of {least} to {most}"
    elif least > -MOST_WHOLE:
        expected += f" of {least} or more"

    def reads(value: Any, where: str) -> int:
        if type(value) is not int or not least <= value <= most:
            raise refusal(where, value, expected)
        return value

    return {_READS: reads}


def flag() -> Kind:
    return _one(bool, "bool", lambda _: True)


def text(least: int = 0, most: int = 0) -> Kind:
    """So many characters; most: 0 for any number."""
    return _one(str, f"str{_so_many(least, most, 'characters')}", lambda value: _fits(len(value), least, most))


def raw(least: int = 0, most: int = 0) -> Kind:
    """So many bytes; most: 0 for any number."""
    return _one(bytes, f"bytes{_so_many(least, most, 'of them')}", lambda value: _fits(len(value), least, most))


def data() -> Kind:
    """A table that another reader looks into."""
    return _one(dict, "dict", lambda _: True)


def real(least: float = -LARGEST, most: float = LARGEST) -> Kind:
    """A finite number within bounds, written with a point."""

    def reads(value: Any, where: str) -> float:
        if not isinstance(value, float) or not least <= value <= most:
            raise refusal(where, value, f"float of {least:g} to {most:g}")
        return value

    return {_READS: reads}


def entries(of: Optional[Kind] = None) -> Kind:
    """A list of values of one kind; without one, a list that another reader looks into."""

    def reads(value: Any, where: str) -> List[Any]:
        if not isinstance(value, list):
            raise refusal(where, value, "list")
        if of is None:
            return value
        return [of[_READS](held, f"{where}, entry {place}") for place, held in enumerate(value, 1)]

    return {_READS: reads}


def run() -> Kind:
    """What may name a run."""

    def reads(value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise refusal(where, value, "str")
        return run_name(value)

    return {_READS: reads}


def made(reads: Callable[[Any], Any]) -> Kind:
    """What `reads` makes of it, which refuses nothing."""
    return {_READS: lambda value, where: reads(value)}


def table(of: Kind) -> Kind:
    """Texts, names of nodes as a rule, to values of one kind."""

    def reads(value: Any, where: str) -> Dict[str, Any]:
        if not isinstance(value, dict):
            raise refusal(where, value, "dict")
        return {name: of[_READS](held, f"{where} of {plain(name, 80)}") for name, held in value.items()}

    return {_READS: reads}


def part(of: Type[Message]) -> Kind:
    """A message within the message."""

    def reads(value: Any, where: str) -> Message:
        if not isinstance(value, dict):
            raise refusal(where, value, "dict")
        return of.read(value, where)

    return {_READS: reads}


def pair() -> Kind:
    """Two byte strings."""

    def reads(value: Any, where: str) -> Tuple[bytes, bytes]:
        if not isinstance(value, list) or len(value) != 2 or not all(isinstance(one, bytes) for one in value):
            raise refusal(where, value, "two of bytes")
        return value[0], value[1]

    return {_READS: reads}


def refusal(where: str, value: Any, expected: str) -> WireError:
    """What is said of a value; of bytes, and of what may hold some, only how many there are."""
    shown = plain(repr(value), 80)
    if isinstance(value, bytes):
        shown = f"{len(value)} bytes"
    elif isinstance(value, (dict, list)):
        shown = f"a {type(value).__name__} of {len(value)}"
    return WireError(f"{where} is {shown}, expected {expected}")


def _one(kind: type, expected: str, fits: Callable[[Any], bool]) -> Kind:
    def reads(value: Any, where: str) -> Any:
        if not isinstance(value, kind) or not fits(value):
            raise refusal(where, value, expected)
        return value

    return {_READS: reads}


def _fits(length: int, least: int, most: int) -> bool:
    return least <= length and (not most or length <= most)


def _so_many(least: int, most: int, what: str) -> str:
    if least == most:
        return f", {least} {what}" if most else ""
    return f", {least} to {most} {what}" if most else f", at least {least} {what}"


def _may_be_left_out(each: "Field[Any]") -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def _left_out(each: "Field[Any]") -> Any:
    """What leaving a field out means."""
    return each.default if each.default_factory is MISSING else each.default_factory()


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return value.written()
    if isinstance(value, dict):
        return {name: _plain(held) for name, held in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
