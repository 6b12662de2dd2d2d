"""Conversions between units, by name. Factors are exact by definition (SI brochure, NIST SP 811) but for molar masses.

A substance's molar mass (g/mol, from its formula and the IUPAC standard atomic weights) leads from mass to amount, as from mg/dL
of glucose to mmol/L.
"""

import re
from typing import Dict, Optional, Tuple

from orchestrator.wire.bounds import near

_FACTORS: Dict[str, Dict[str, float]] = {
    "mass": {"kg": 1.0, "g": 1e-3, "mg": 1e-6, "ug": 1e-9, "lb": 0.45359237, "oz": 0.028349523125},
    "length": {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "km": 1e3, "in": 0.0254, "ft": 0.3048},
    "volume": {"L": 1.0, "dL": 0.1, "mL": 1e-3, "uL": 1e-6},
    "time": {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0, "d": 86400.0, "wk": 604800.0, "a": 31557600.0},
    "pressure": {"mmHg": 133.322387415, "kPa": 1e3, "Pa": 1.0, "cmH2O": 98.0665, "mbar": 100.0},
    "energy": {"kJ": 1.0, "kcal": 4.184, "J": 1e-3},
    "share": {"1": 1.0, "%": 1e-2},
    "mass concentration": {
        "g/L": 1.0,
        "g/dL": 10.0,
        "mg/dL": 1e-2,
        "mg/L": 1e-3,
        "ug/L": 1e-6,
        "ng/mL": 1e-6,
        "ug/dL": 1e-5,
    },
    "amount concentration": {"mol/L": 1.0, "mmol/L": 1e-3, "umol/L": 1e-6, "nmol/L": 1e-9, "pmol/L": 1e-12},
}
"""dimension: unit -> its size in the first unit of the dimension. `a` is the Julian year of 365.25 days."""

_TEMPERATURES: Dict[str, Tuple[float, float]] = {"K": (1.0, 0.0), "Cel": (1.0, 273.15), "degF": (5 / 9, 459.67 * 5 / 9)}
"""unit -> (a, b): kelvin = a x + b."""

_ALSO = {
    "°C": "Cel",
    "C": "Cel",
    "degC": "Cel",
    "°F": "degF",
    "F": "degF",
    "[degF]": "degF",
    "y": "a",
    "mm[Hg]": "mmHg",
    "cm[H2O]": "cmH2O",
    "[lb_av]": "lb",
    "[oz_av]": "oz",
    "[in_i]": "in",
    "[ft_i]": "ft",
}
"""Other names, those of UCUM among them."""

_MICRO = {0xB5: "u", 0x3BC: "u"}
"""Both letters that stand for a millionth: the sign, and the Greek one."""

_LITRES = re.compile(r"(?<![^/])([dmu]?)l(?![^/])")
"""A litre has two letters, in UCUM as well: mg/dl is mg/dL."""

MOLAR_MASSES: Dict[str, float] = {
    "glucose": 180.156,
    "creatinine": 113.120,
    "urea": 60.056,
    "urea nitrogen": 28.014,
    "uric acid": 168.112,
    "cholesterol": 386.664,
    "bilirubin": 584.673,
    "calcium": 40.078,
    "magnesium": 24.305,
    "phosphorus": 30.974,
    "iron": 55.845,
    "lactate": 89.070,
}
"""g/mol."""


def conversion(unit: str, to: str, substance: str = "") -> Tuple[float, float]:
    """(a, b) of x in `to` = a x + b for x in `unit`. ValueError where there is no way between them, or a unit is unknown."""
    one, other = _usual(unit), _usual(to)
    if one in _TEMPERATURES and other in _TEMPERATURES:
        (a, b), (c, d) = _TEMPERATURES[one], _TEMPERATURES[other]
        return a / c, (b - d) / c
    from_kind, to_kind = _dimension(one, unit), _dimension(other, to)
    factor = (
        _FACTORS[from_kind][one] / _FACTORS[to_kind][other] if from_kind in _FACTORS and to_kind in _FACTORS else 0.0
    )
    if from_kind == to_kind:
        return factor, 0.0
    if {from_kind, to_kind} == {"mass concentration", "amount concentration"}:
        mass = _molar_mass(unit, to, substance)
        return factor / mass if to_kind.startswith("amount") else factor * mass, 0.0
    raise ValueError(f"unit {unit!r} is a {from_kind}, {to!r} a {to_kind}: there is no way from one to the other")


def _usual(unit: str) -> str:
    """As it is named here."""
    return _LITRES.sub(r"\1L", _ALSO.get(unit, unit).translate(_MICRO))


def _dimension(unit: str, written: str) -> str:
    found: Optional[str] = "temperature" if unit in _TEMPERATURES else None
    found = next((kind for kind, units in _FACTORS.items() if unit in units), found)
    if found is None:
        known = [*_TEMPERATURES, *(each for units in _FACTORS.values() for each in units)]
        raise ValueError(f"unit {written!r}: unknown{near(written, known) or '; known: ' + ', '.join(known)}")
    return found


def _molar_mass(unit: str, to: str, substance: str) -> float:
    if not substance:
        raise ValueError(f"from {unit} to {to} needs `substance`, of {', '.join(MOLAR_MASSES)}")
    if substance not in MOLAR_MASSES:
        raise ValueError(
            f"substance {substance!r}: unknown{near(substance, MOLAR_MASSES) or '; known: ' + ', '.join(MOLAR_MASSES)}; "
            "a `formula` can convert any"
        )
    return MOLAR_MASSES[substance]
