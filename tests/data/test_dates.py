"""Dates of cells mean the same on every node, whatever its Python; moments are those of the standard library."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.dates import day, day_alone, days_between, first_moment, moment
from orchestrator.data.formula import Formula, FormulaError

MOMENTS = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30))
MICROSECOND = datetime.timedelta(microseconds=1)


@given(MOMENTS, st.one_of(st.none(), st.integers(-14 * 60, 14 * 60)), st.sampled_from("T "))
def test_a_moment_is_that_of_the_standard_library(at: datetime.datetime, ahead_min: "int | None", between: str) -> None:
    begun = datetime.datetime(1970, 1, 1)
    if ahead_min is not None:
        at = at.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=ahead_min)))
        begun = begun.replace(tzinfo=datetime.timezone.utc)
    cell = at.isoformat(between)
    assert moment(cell) == (at - begun) // MICROSECOND
    assert day(cell) == at.date(), "as it is where it was written"
    assert day(cell[:10]) == at.date()


def test_other_spellings_of_an_offset_are_the_same() -> None:
    same = (
        "2026-11-27T10:30:00+00:00",
        "2026-11-27 10:30Z",
        "2026-11-27T11:30+01",
        "2026-11-27T11:30:00.000000000+0100",
    )
    assert len({moment(cell) for cell in same}) == 1


def test_a_leap_second_is_the_first_of_the_next_minute() -> None:
    assert moment("2016-12-31T23:59:60Z") == moment("2017-01-01T00:00:00Z")
    assert day("2016-12-31T23:59:60Z") == datetime.date(2016, 12, 31)


@pytest.mark.parametrize(
    ("cell", "first", "last"),
    [
        ("2024", "2024-01-01", "2024-12-31"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("2026-11-27", "2026-11-27", "2026-11-27"),
    ],
)
def test_the_days_a_year_a_month_or_a_day_may_mean(cell: str, first: str, last: str) -> None:
    assert days_between(cell) == (day(first), day(last))
    assert first_moment(cell) == moment(first)


def test_a_day_alone_has_no_time_on_any_python() -> None:
    assert day_alone("2026-11-27") == datetime.date(2026, 11, 27)
    for cell in ("2026-11-27T10:30", "2026-11", "2026", "2026-W48-5", "2026-1-5"):
        with pytest.raises(ValueError, match="is not a date as 2026-11-27"):
            day_alone(cell)
    with pytest.raises(ValueError, match="it has a time"):
        days_between("2026-11-27T10:30")


@pytest.mark.parametrize(
    "cell",
    [
        # Python 3.11 and later read these, and 3.8 does not
        *("20261127", "2026-W48-5", "2026-11-27T10", "2026-11-27T103000"),
        *(
            "",
            "2026",
            "2026-11",
            "27.11.2026",
            "2026-13-01",
            "2026-02-30",
            "2026-11-27T24:00",
            "2026-11-27T10:60",
            "0000-01-01",
        ),
        *(
            "2026-11-27x",
            "2026-11-27T",
            " 2026-11-27",
            "٢٠٢٦-11-27",
            "2026-11-27T10:30:61",
            "infinity",
            "2026-11-27T10:30+99:00",
        ),
    ],
)
def test_what_is_no_date_on_one_node_is_none_on_another(cell: str) -> None:
    for read in (day, moment):
        with pytest.raises(ValueError, match="is not a date as 2026-11-27"):
            read(cell)
    if cell:
        with pytest.raises(FormulaError, match="is not a date as 2026-11-27"):
            Formula("days(came, '2026-11-27')").value({"came": cell})
