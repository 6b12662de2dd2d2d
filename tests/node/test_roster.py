"""Whom an owner confirmed, as it is asked and as it is shown to the owner."""

from orchestrator.node.roster import NOBODY, Roster, grouped, roster_lines, roster_of
from orchestrator.wire.protection import Aggregation

B, C, KEYS = "b" * 64, "c" * 64, "e" * 64
MASKED = Aggregation("masked")
CKKS = Aggregation("ckks", key_holder="keys")


def test_policy_and_ledger_have_to_agree_on_a_name() -> None:
    found = roster_of({"a": "1", "b": "2", "c": "3"}, "5", {"a": "1", "b": "9", "c": "", "d": "3"})
    assert found == Roster({"a": "1", "b": "", "c": "", "d": "3"}, "5")


def test_a_key_under_two_names_is_nobodys() -> None:
    assert roster_of({"a": "1"}, "", {"b": "1"}).peers == {"a": "", "b": ""}


def test_an_approval_shows_who_is_accepted_and_that_others_are_not() -> None:
    lines = roster_lines(MASKED, "a", Roster({"c": C, "b": B, "d": "", "a": "a" * 64}))
    assert lines == [
        "peers confirmed for sums over at least 3 nodes: 2",
        f"    b  {grouped(B)}",
        f"    c  {grouped(C)}",
        "anyone else is refused: this node sends nothing into a sum with them",
    ]
    assert grouped(B).replace(" ", "") == B
    assert "which may be the gateway's own" in roster_lines(MASKED, "a", NOBODY, first_sight=True)[-1]
    assert roster_lines(Aggregation(), "a", NOBODY) == []


def test_an_approval_of_encrypted_sums_names_the_key_holder_and_what_rests_on_it() -> None:
    for roster in (Roster({"keys": KEYS, "b": B}), Roster({"b": B}, KEYS)):
        lines = roster_lines(CKKS, "a", roster)
        assert lines[0].endswith("nodes: 1")
        assert f"key holder keys: {grouped(KEYS)}" in lines
        assert lines[-1].endswith("is the key holder's to check")
    assert "key holder keys: not confirmed" in roster_lines(CKKS, "a", NOBODY)
    assert "key holder keys: not confirmed" in roster_lines(CKKS, "a", Roster({"keys": ""}, KEYS))


def test_words_on_a_key_holder_have_to_agree() -> None:
    assert Roster({"keys": KEYS}, KEYS).holder("keys") == Roster({"keys": KEYS}).holder("keys") == KEYS
    assert Roster({}, KEYS).holder("keys") == KEYS
    for other in (
        Roster({"keys": ""}, KEYS),
        Roster({"keys": B}, KEYS),
        Roster({"keys": ""}),
        Roster({"b": B}),
        NOBODY,
    ):
        assert other.holder("keys") == ""
