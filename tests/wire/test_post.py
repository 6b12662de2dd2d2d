"""A broker within a process: topics, retained messages, wills and names are as at any broker."""

from typing import List

import pytest

from orchestrator.errors import BrokerError
from orchestrator.wire.link import Connected, Disconnected, Event, Message
from orchestrator.wire.post import Post, PostLink, reads


@pytest.mark.parametrize(
    ("pattern", "topic", "read"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "b/a", False),
        ("#", "a/b", True),
        ("#", "$SYS/uptime", False),
        ("+/uptime", "$SYS/uptime", False),
        ("$SYS/#", "$SYS/uptime", True),
        ("a/", "a", False),
    ],
)
def test_a_subscription_reads_what_mqtt_says(pattern: str, topic: str, read: bool) -> None:
    assert reads(pattern, topic) is read


def events(link: PostLink) -> List[Event]:
    found = []
    while not link.events.empty():
        found.append(link.events.get())
    return found


def test_messages_come_in_order_to_all_that_read_and_a_late_one_gets_what_is_retained() -> None:
    post = Post()
    first, sender = post.link("first", ["up/+"]), post.link("sender", ["up/a"])
    for link in (first, sender):
        link.open(None)
    sender.publish("up/a", b"1", retain=True)
    sender.publish("up/a", b"2")
    sender.publish("down/a", b"3")
    expected = [Connected(), Message("up/a", b"1"), Message("up/a", b"2")]
    assert events(first) == events(sender) == expected
    late = post.link("late", ["up/#"])
    late.open(None)
    assert events(late) == expected[:2]
    sender.publish("up/a", b"", retain=True)  # forgets it
    later = post.link("later", ["up/#"])
    later.open(None)
    assert events(later) == [Connected()]
    assert sender.socket_bytes() == (3, 2)


def test_a_link_hears_what_it_subscribes_to_later_and_what_is_retained_there_once() -> None:
    post = Post()
    link = post.link("one", ["a"])
    link.open(None)
    link.publish("b/c", b"kept", retain=True)
    link.publish("a", b"kept", retain=True)
    for _ in range(2):
        link.subscribe("b/+")
    link.publish("b/d", b"new")
    assert events(link) == [Connected(), Message("a", b"kept"), Message("b/c", b"kept"), Message("b/d", b"new")]


def test_a_will_is_published_for_a_connection_that_is_cut_and_for_no_other() -> None:
    post = Post()
    watch, left, cut = post.link("watch", ["gone/+"]), post.link("left", [], ("gone/left", b"x")), None
    cut = post.link("cut", ["#"], ("gone/cut", b"y"))
    for link in (watch, left, cut):
        link.open(None)
    left.close()
    post.cut("cut", "power")
    assert events(watch) == [Connected(), Message("gone/cut", b"y")]
    assert events(cut) == [Connected(), Disconnected("power")]
    with pytest.raises(BrokerError, match="'cut'"):
        post.cut("cut")


def test_a_name_belongs_to_the_connection_that_came_last() -> None:
    post = Post()
    before, after = (post.link("name", ["a"]) for _ in range(2))
    before.open(None)
    after.open(None)
    post.publish("a", b"1")
    assert events(before) == [Connected(), Disconnected("another connection has this name")]
    assert events(after) == [Connected(), Message("a", b"1")]


def test_what_a_source_has_is_sent_when_the_link_is_pumped() -> None:
    post = Post()
    link = post.link("one", ["a"])
    link.open(None)
    waiting = [("a", b"1"), ("a", b"2")]
    link.send_from(lambda now: waiting.pop(0) if waiting else None)
    assert events(link) == [Connected()]
    assert link.flush(1.0)
    assert events(link) == [Message("a", b"1"), Message("a", b"2")]
