"""The columns that a description declares of FHIR R4 resources.

They say a small, closed part of what a ViewDefinition of SQL on FHIR can. Fields, status codes and search parameters have
the names of hl7.org/fhir/R4.
"""

from dataclasses import dataclass, fields
from typing import Dict, FrozenSet, Iterator, NamedTuple, Tuple

from orchestrator.data.dates import day_alone
from orchestrator.data.units import conversion
from orchestrator.wire.bounds import one_of, refuse

PATIENT = "Patient"
OBSERVATION = "Observation"
BOUNDS = ("refuse", "limit", "leave out")
MOST_CODES = 200


class Kind(NamedTuple):
    """A type of resources that are about a patient."""

    untrue: FrozenSet[str]  # values of `status` by which it is not so, or never was
    concept: str = "code"  # the field with its codes
    subject: str = "subject"  # the field that says whose it is
    status: str = "status"
    search: str = "code"  # the search parameter for `concept`


def _untrue(*also: str) -> FrozenSet[str]:
    return frozenset(("entered-in-error", *also))


KINDS: Dict[str, Kind] = {
    "Condition": Kind(_untrue("refuted"), status="verificationStatus"),
    "Observation": Kind(_untrue("cancelled")),
    "Procedure": Kind(_untrue("not-done")),
    "MedicationRequest": Kind(_untrue("cancelled"), "medicationCodeableConcept"),
    "MedicationStatement": Kind(_untrue("not-taken"), "medicationCodeableConcept"),
    "MedicationAdministration": Kind(_untrue("not-done"), "medicationCodeableConcept"),
    "AllergyIntolerance": Kind(_untrue("refuted"), subject="patient", status="verificationStatus"),
    "Immunization": Kind(_untrue("not-done"), "vaccineCode", "patient", search="vaccine-code"),
    "DiagnosticReport": Kind(_untrue("cancelled")),
}

TAKES = ("any", "count", "first", "last", "mean", "value")

PATHS = (
    *("id", "active", "gender", "birthDate", "age", "deceased", "deceasedBoolean", "deceasedDateTime", "maritalStatus"),
    *("address.city", "address.district", "address.state", "address.postalCode", "address.country"),
    "identifier.value",
)
"""Of a patient. age: in whole years on the day `at`. deceased: 1 or 0, whichever of the two fields says so."""


_COUNTED = ("name", "from_", "code", "codes", "system", "take")
_VALUED = ("component", "unit", "other_units", "substance", "bounds", "value_system")
"""The keys of a column for which resources are counted, and those of one that reads a value besides."""


@dataclass(frozen=True)
class Column:
    """`[[source.columns]]`: a column of the table, and what of a patient's resources it says."""

    name: str  # [text]
    from_: str  # `from` in the file: the type of the resources [Patient, Condition, Observation, ...]
    path: str = ""  # of Patient: which of its values [such as "gender", "address.postalCode", "age"]
    at: str = ""  # of path "age": the day on which a patient is so old [such as "2026-12-31"]
    code: str = ""  # of all others: what they are about [such as "44054006"]
    codes: Tuple[str, ...] = ()  # the same, any of several [texts]
    system: str = ""  # of the codes, or of an identifier; any where it is left out [such as "http://snomed.info/sct"]
    take: str = ""  # of the resources with such a code [any, count, first, last, mean, value]
    component: str = ""  # of an Observation: the code of its component with the value [such as "8480-6"]
    unit: str = ""  # of an Observation's numbers; any other is an error [UCUM, such as "mg/dL"]
    other_units: Tuple[str, ...] = ()  # those from which numbers are converted to `unit` [texts]
    substance: str = ""  # whose molar mass leads from one to the other [such as "glucose"]
    bounds: str = "refuse"  # what becomes of a value such as "< 5" [refuse, limit: it counts as 5, leave out]
    value_system: str = ""  # of an Observation whose value is a code in several systems: which one is meant [text]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    @property
    def wanted(self) -> FrozenSet[str]:
        """The codes it is about."""
        return frozenset((self.code, *self.codes) if self.code else self.codes)

    @property
    def valued(self) -> bool:
        """Whether it needs the value of a resource, and not only how many there are."""
        return self.take not in ("any", "count")

    def _wrong(self) -> Iterator[str]:
        if not self.name.strip() or self.name != self.name.strip():
            yield f"name {self.name!r}: expected a text without spaces around it"
        if self.from_ == PATIENT:
            yield from self._of_patient()
        elif self.from_ in KINDS:
            yield from self._of_others()
        else:
            yield from one_of("from", self.from_, (PATIENT, *KINDS))

    def _of_patient(self) -> Iterator[str]:
        yield from one_of("path", self.path, PATHS)
        yield from _without(self, ("name", "from_", "path", "at", "system"), "from = 'Patient'")
        if self.path == "age":
            yield from _day(self.at)
        elif self.at:
            yield "at: belongs to path 'age'"
        if self.system and self.path != "identifier.value":
            yield "system: belongs to path 'identifier.value'"

    def _of_others(self) -> Iterator[str]:
        if self.from_ != OBSERVATION:
            yield from _without(self, _COUNTED, f"from = {self.from_!r}")
        elif not self.valued:
            yield from _without(self, _COUNTED, f"take = {self.take!r}")
        else:
            yield from _without(self, (*_COUNTED, *_VALUED), f"from = {self.from_!r}")
        if bool(self.code) == bool(self.codes):
            yield "code: one code, or several as `codes`, is needed"
        if len(self.codes) > MOST_CODES:
            yield f"codes: {len(self.codes)}, at most {MOST_CODES}"
        if any(not each.strip() or each != each.strip() for each in self.wanted):
            yield "codes: a code is a text without spaces around it"
        yield from one_of("take", self.take, TAKES)
        if self.from_ != OBSERVATION and self.take in TAKES and self.valued:
            yield f"take {self.take!r}: needs a value, and of {self.from_} none is read; it is any or count"
        yield from one_of("bounds", self.bounds, BOUNDS)
        if self.value_system and self.unit:
            yield "value_system: of values that are codes; `unit` is of numbers"
        if self.other_units and not self.unit:
            yield "other_units: `unit` says to which one they are converted"
        for each in self.other_units if self.unit else ():
            try:
                conversion(each, self.unit, self.substance)
            except ValueError as error:
                yield f"other_units: {error}"


def _without(column: Column, used: Tuple[str, ...], what: str) -> Iterator[str]:
    for each in fields(column):
        if each.name not in used and getattr(column, each.name) != each.default:
            yield f"{each.name}: does not go with {what}"


def _day(text: str) -> Iterator[str]:
    try:
        day_alone(text)
    except ValueError:
        yield f"at {text!r}: path 'age' needs a day, such as \"2026-12-31\""
