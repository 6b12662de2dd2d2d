"""Columns computed from others: a small closed language of numbers, columns, + - * / and ten functions.

Read with Python's own parser and computed by this file alone: there are no attributes, calls of anything else, loops or
powers, and no text but dates, so a formula ends after as many steps as it has parts.
"""

import ast
import math
import operator
from datetime import date
from typing import Callable, Dict, List, Optional, Tuple, Union

from orchestrator.data.dates import day

MOST_LETTERS, MOST_PARTS = 500, 200

Value = Union[float, str]
"""A number, or a date as its text."""

Compute = Callable[[Dict[str, str]], Value]

DAYS_OF_YEAR = 365.25


class FormulaError(Exception):
    """Why a formula has no value for a row."""


class MissingError(Exception):
    """A column of the formula holds no value in a row: the formula has none either."""


def _day(text: Value) -> date:
    try:
        return day(str(text))
    except ValueError as error:
        raise FormulaError(f"{error}; `date` of its column says how it is written") from error


def _days(later: Value, earlier: Value) -> float:
    return float((_day(later) - _day(earlier)).days)


def _number(value: Value) -> float:
    if isinstance(value, str):
        try:
            number = float(value) if value.isascii() and "_" not in value else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise FormulaError(f"{value!r} is not a number")
        return number
    return value


def _on_numbers(function: Callable[..., float]) -> Callable[..., float]:
    def computed(*values: Value) -> float:
        return float(function(*(_number(value) for value in values)))

    return computed


_FUNCTIONS: Dict[str, Tuple[int, int, Callable[..., float]]] = {
    "abs": (1, 1, _on_numbers(abs)),
    "sqrt": (1, 1, _on_numbers(math.sqrt)),
    "log": (1, 1, _on_numbers(math.log)),
    "log10": (1, 1, _on_numbers(math.log10)),
    "exp": (1, 1, _on_numbers(math.exp)),
    "floor": (1, 1, _on_numbers(math.floor)),
    "min": (2, 8, _on_numbers(min)),
    "max": (2, 8, _on_numbers(max)),
    "days": (2, 2, _days),
    "years": (2, 2, lambda later, earlier: _days(later, earlier) / DAYS_OF_YEAR),
}
"""name: (fewest arguments, most, what it computes). days and years: from the second date to the first."""

_BINARY: Dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARED: Dict[type, Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class Formula:
    """A formula, read once: `columns` are those it needs. ValueError where it is not of the language."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: List[str] = []
        if len(text) > MOST_LETTERS:
            raise ValueError(f"formula of {len(text)} letters, at most {MOST_LETTERS}")
        try:
            parsed = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"formula {text!r}: cannot be read; write one as weight / (height * height)") from error
        if sum(1 for _ in ast.walk(parsed)) > MOST_PARTS:
            raise ValueError(f"formula {text!r}: more than {MOST_PARTS} parts")
        self._compute = self._of(parsed)

    def value(self, row: Dict[str, str]) -> Optional[float]:
        """The number for a row of cells by column; None where a column it needs is empty. FormulaError where there is none."""
        try:
            found = _number(self._compute(row))
        except MissingError:
            return None
        except (ArithmeticError, ValueError) as error:
            raise FormulaError(f"{self.text!r} has no value: {error}") from error
        if not math.isfinite(found):
            raise FormulaError(f"{self.text!r} is not a finite number")
        return found

    def _of(self, node: ast.AST) -> Compute:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return self._constant(node.value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._date(node.value)
        if isinstance(node, ast.Name):
            return self._column(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            inner, sign = self._of(node.operand), -1.0 if isinstance(node.op, ast.USub) else 1.0
            return lambda row: sign * _number(inner(row))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return self._two(_BINARY[type(node.op)], node.left, node.right)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
            return self._two(_COMPARED[type(node.ops[0])], node.left, node.comparators[0])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, [self._of(argument) for argument in node.args])
        raise ValueError(
            f"formula {self.text!r}: holds something else than numbers, dates, columns, + - * / ( ), one comparison and "
            f"{', '.join(_FUNCTIONS)}"
        )

    def _constant(self, number: Union[int, float]) -> Compute:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError(f"formula {self.text!r}: a number that is not finite")
        return lambda row: value

    def _date(self, text: str) -> Compute:
        try:
            _day(text)
        except FormulaError as error:
            raise ValueError(
                f"formula {self.text!r}: {text!r} is not a date as 2026-11-27, the only text in a formula"
            ) from error
        return lambda row: text

    def _column(self, name: str) -> Compute:
        if name not in self.columns:
            self.columns.append(name)

        def cell(row: Dict[str, str]) -> Value:
            if not row[name]:
                raise MissingError
            return row[name]

        return cell

    def _two(self, function: Callable[[float, float], float], left: ast.AST, right: ast.AST) -> Compute:
        one, other = self._of(left), self._of(right)
        return lambda row: float(function(_number(one(row)), _number(other(row))))

    def _call(self, name: str, arguments: List[Compute]) -> Compute:
        if name not in _FUNCTIONS:
            raise ValueError(f"formula {self.text!r}: no function {name!r}; there are {', '.join(_FUNCTIONS)}")
        fewest, most, function = _FUNCTIONS[name]
        if not fewest <= len(arguments) <= most:
            expected = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"formula {self.text!r}: {name} has {len(arguments)} arguments, expected {expected}")
        return lambda row: function(*(argument(row) for argument in arguments))
