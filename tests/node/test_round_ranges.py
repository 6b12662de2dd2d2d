import random

from orchestrator.node.round_ranges import RoundRanges


def test_ranges_are_the_set_of_what_was_added_whatever_the_order() -> None:
    rng = random.Random(1)
    for _ in range(200):
        added = [rng.randrange(-1, 30) for _ in range(rng.randrange(40))]
        found = RoundRanges()
        for number in added:
            found = found.adding(number)
        assert list(found) == sorted(set(added))
        assert len(found) == len(set(added))
        assert all((number in found) == (number in added) for number in range(-3, 33))
        again = RoundRanges()
        for number in sorted(set(added)):
            again = again.adding(number)
        assert found == again
        assert hash(found) == hash(again)
    assert repr(RoundRanges(((1, 20_000),)).adding(20_001)) == "RoundRanges(((1, 20001),))"
