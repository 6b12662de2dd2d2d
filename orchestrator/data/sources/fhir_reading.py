"""FHIR resources on their way into rows, one a patient: of each patient is kept what the declared columns need."""

import hashlib
import json
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from orchestrator.data.cells import shown
from orchestrator.data.problems import Problems
from orchestrator.data.sources.base import Row, text
from orchestrator.data.sources.fhir_columns import KINDS, PATIENT, Column
from orchestrator.data.sources.fhir_folder import Found
from orchestrator.data.sources.fhir_values import (
    Resource,
    Value,
    codings,
    has_code,
    listed,
    observed,
    observed_at,
    of_patient,
    patient_of,
    table,
    understood,
    untrue,
    word,
)
from orchestrator.data.takes import FIRST, TAKES, Take
from orchestrator.errors import DataError

milestones = logging.getLogger("edgeward.data.milestones")

NEWS_S = 10.0

MOST = 1 << 22
"""Patients, and used resources of a type: a server may send them without an end."""


def _only(state: Any, value: Value, key: Any) -> Any:
    if state is not None:
        raise ValueError("is the patient's second value; take first, last or mean")
    return (None, value)


_TAKES: Dict[str, Take] = {
    **{name: TAKES[name] for name in ("any", "count", "first", "last", "mean")},
    "value": Take(_only, FIRST.cell),
}


class _Patient(NamedTuple):
    number: int  # of the row
    states: List[Any]  # of each column: the value of a Patient's, of others see _Take


class Reading:
    """source: a Folder, or what finds like one."""

    def __init__(self, columns: List[Column], source: Any) -> None:
        self._columns, self._source = columns, source
        self._path: Path = source.path
        self._problems = Problems(self._path)
        self._patients: Dict[str, _Patient] = {}
        self._replaced: Dict[str, str] = {}  # id of who is recorded twice -> the id that holds
        self._left_out: Counter[str] = Counter()
        self._seen: Dict[str, bytes] = {}  # of one type: id of a used resource -> digest of it

    def rows(self) -> Iterator[Row]:
        """Raises DataError with the first problems, where there are any."""
        for kind in dict.fromkeys((PATIENT, *(column.from_ for column in self._columns))):
            self._seen.clear()
            self._read(kind)
        self._problems.refuse()
        for what, many in sorted(self._left_out.items()):
            milestones.info("%s: left out: %d %s", self._path, many, what)
        for number, states in self._patients.values():
            yield number, [_cell(number, column, state) for column, state in zip(self._columns, states)]

    def _read(self, kind: str) -> None:
        columns = [(place, column) for place, column in enumerate(self._columns) if column.from_ == kind]
        use = self._patient if kind == PATIENT else self._resource
        said_at = time.monotonic()
        for found in self._source.found(kind, [column for _, column in columns]):
            if time.monotonic() - said_at >= NEWS_S:
                said_at = time.monotonic()
                milestones.info("%s: %s resources of type %s read, and on", self._path, f"{found.number:,}", kind)
            try:
                resource = found.resource
                if resource is None:
                    raise ValueError(found.wrong)
                if resource.get("resourceType") != kind:
                    raise ValueError(
                        f"is a resource of type {shown(str(resource.get('resourceType')))}, expected {kind}"
                    )
                use(found, resource, columns)
            except ValueError as error:
                self._problems.add(found.place, str(error))

    def _patient(self, found: Found, resource: Resource, columns: Sequence[Tuple[int, Column]]) -> None:
        understood(resource)
        name = _id(resource)
        if self._repeated(resource):
            return
        for link in (table(each, "link") for each in listed(resource.get("link"), "link")):
            if link.get("type") == "replaced-by":
                self._replaced[name] = patient_of(link.get("other"), "link.other", self._source.base)
                self._left_out["Patient that another one replaces"] += 1
                return
        states: List[Any] = [None] * len(self._columns)
        for place, column in columns:
            try:
                states[place] = of_patient(resource, column)
            except ValueError as error:
                self._problems.add(found.place, f"column {column.name!r}: {error}")
        self._patients[name] = _Patient(found.number, states)

    def _resource(self, found: Found, resource: Resource, columns: Sequence[Tuple[int, Column]]) -> None:
        name = columns[0][1].from_
        kind = KINDS[name]
        if kind.concept not in resource and any(key.startswith("medication") for key in resource):
            raise ValueError(f"names its medication otherwise than by {kind.concept}, which alone is read")
        codes = codings(resource.get(kind.concept), kind.concept)
        meant = [(place, column) for place, column in columns if has_code(codes, column.wanted, column.system)]
        if not meant:
            return
        understood(resource)
        if untrue(resource, kind):
            self._left_out[f"{name} entered in error, refuted or not done"] += 1
            return
        if self._repeated(resource):
            return
        whose = patient_of(resource.get(kind.subject), kind.subject, self._source.base)
        if not whose:
            self._left_out[f"{name} of no patient"] += 1
            return
        patient = self._patients.get(self._replaced.get(whose, whose))
        if patient is None:
            raise ValueError(f"{kind.subject}: there is no Patient {shown(whose)}; export both at the same time")
        for place, column in meant:
            try:
                self._add(patient, place, column, resource)
            except ValueError as error:
                self._problems.add(found.place, f"column {column.name!r}: {error}")

    def _add(self, patient: _Patient, place: int, column: Column, resource: Resource) -> None:
        value = observed(resource, column) if column.valued else None
        if column.valued and value is None:
            self._left_out[f"{column.from_} without a value"] += 1
            return
        # Of one moment the later id, whatever the order in which they come.
        key = (observed_at(resource), _id(resource)) if column.take in ("first", "last") else None
        patient.states[place] = _TAKES[column.take].add(patient.states[place], value, key)

    def _repeated(self, resource: Resource) -> bool:
        """Whether the same resource was used before, as where exports or pages overlap."""
        name, whole = _id(resource), json.dumps(resource, sort_keys=True).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(whole, digest_size=16).digest()
        before = self._seen.get(name)
        if before is None:
            if len(self._seen) == MOST:
                raise DataError(
                    f"{self._path}: more than {MOST} of type {resource['resourceType']}, as many as a node uses"
                )
            self._seen[name] = digest
            return False
        if before != digest:
            raise ValueError(f"id {shown(name)} was there before, with another content; leave out the older one")
        self._left_out[f"{resource['resourceType']} repeated"] += 1
        return True


def _id(resource: Resource) -> str:
    name = word(resource.get("id"), "id")
    if not name:
        raise ValueError("has no id")
    return name


def _cell(number: int, column: Column, state: Any) -> str:
    return text(number, column.name, _TAKES[column.take].cell(state) if column.take else state)
