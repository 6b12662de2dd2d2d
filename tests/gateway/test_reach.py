"""A gateway that cannot hear anybody blames nobody."""

from orchestrator.gateway.reach import ECHO_EVERY_S, SILENT_AFTER_S, Reach


def test_a_broker_that_passes_nothing_on_is_out_of_reach_until_something_comes() -> None:
    reach = Reach(0.0, trusted=True)
    assert not reach.due(ECHO_EVERY_S / 2)
    assert reach.due(ECHO_EVERY_S)
    late = ECHO_EVERY_S + SILENT_AFTER_S
    assert not reach.gone_silent(late - 0.1)
    assert reach.gone_silent(late)
    assert reach.away
    assert not reach.gone_silent(late + 1), "said once"
    assert reach.heard(late + 5) == late + 5, "nobody was heard since the beginning"
    assert not reach.away
    assert reach.heard(late + 6) == 0


def test_a_lost_connection_counts_from_the_last_message() -> None:
    reach = Reach(0.0)
    assert reach.heard(10.0) == 0
    reach.lost()
    reach.lost()
    assert reach.away
    assert reach.heard(25.0) == 15


def test_a_broker_that_may_forbid_our_own_messages_is_not_judged_by_them() -> None:
    reach = Reach(0.0)
    assert reach.due(ECHO_EVERY_S)
    assert not reach.gone_silent(1000.0)
    reach.heard(1000.0, own=True)
    assert reach.due(1000.0 + ECHO_EVERY_S)
    assert reach.gone_silent(1000.0 + ECHO_EVERY_S + SILENT_AFTER_S)


def test_a_wait_for_something_else_is_no_silence() -> None:
    """While the gateway computes it reads nothing: what counts is how long its own message has been on its way."""
    reach = Reach(0.0, trusted=True)
    assert not reach.gone_silent(1000.0)
    assert reach.due(1000.0)
    assert not reach.gone_silent(1000.1)
