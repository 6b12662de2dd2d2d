"""What nodes of an exchange send each other: sealed, by confirmed keys, in one run; and what becomes of all that is not so."""

import contextlib
import hashlib
import sqlite3
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from series import examples
from test_peers import Issuer

from orchestrator.analyses.agents import Exchange
from orchestrator.analyses.cpds import CpdsAgent, Setting
from orchestrator.analyses.peer_graph import graph_of
from orchestrator.data.dataset import Dataset
from orchestrator.errors import WireError
from orchestrator.node.peer_talk import MOST_WRONG, About, PeerTalk
from orchestrator.node.peers import Peers
from orchestrator.node.roster import roster_of
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.privacy.peer_channel import Hello, PeerKey, peer_session, read_hello
from orchestrator.wire.peer_frames import HELLO, SEALED, PeerFrame, decode_peer, encode_peer
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

NODES, TERMS, ITERATIONS = ("a", "b", "c"), 3, 40
GRAPH = graph_of("ring", NODES)
SETTING = Setting(TERMS, len(NODES), 90, 0.01, 10.0, 5.0, ITERATIONS, GRAPH.widest)
TASK = Task(
    "t", Schema("table", "", (), {}, (Feature("x", 0, 1),)), {}, privacy=Privacy("none"), analysis={"kind": "pca"}
)
DATA = Dataset(np.zeros((30, 1)), np.zeros(30, np.int64))


def rows_of(node: str) -> np.ndarray:
    draw = np.random.default_rng(NODES.index(node))
    return draw.normal(size=(30, TERMS)) + np.array([0.5, 1.0, 0.0])


class Office:
    """Carries what nodes send, and keeps it. Each node's owner confirmed the others' keys, but for those that are named."""

    def __init__(
        self, folder: Path, strangers: Tuple[str, ...] = (), patience_s: float = 1e6, enrolled: bool = False
    ) -> None:
        """enrolled: with certificates of one authority; else each has a key of its own."""
        self.folder, self.issuer, self.patience_s = folder, Issuer(), patience_s
        self.sent: List[Tuple[str, str, bytes]] = []
        self.waiting: List[Tuple[str, str, bytes]] = []
        self.said: Dict[str, Dict[str, str]] = {node: {} for node in NODES}
        self.stores = {node: NodeStore(folder / f"{node}-state.sqlite") for node in NODES}
        self.peers = {node: self.peers_of(node, enrolled) for node in NODES}
        for node in NODES:
            others = [name for name in NODES if name != node and name not in strangers]
            self.said[node].update({name: self.peers[name].fingerprint for name in others})
        self.talks = {node: self.talk(node) for node in NODES}

    def peers_of(self, node: str, enrolled: bool) -> Peers:
        words = self.said[node]
        if enrolled:
            return self.issuer.peers(self.folder, node, words)
        return Peers(node, self.stores[node], None, lambda: roster_of(words, "", {}))

    def talk(self, node: str, task: str = "digest", number: int = 2, question: str = "q") -> PeerTalk:
        exchange = Exchange(GRAPH, ITERATIONS, 2 * TERMS, SETTING.content_bytes, self.patience_s, "weights")
        about = About("icu", Run("run", task, TASK, b"", DATA, DATA), number, question, node)
        neighbours = GRAPH.neighbours(node)

        def make(saved: Optional[bytes]) -> CpdsAgent:
            return CpdsAgent(rows_of(node), SETTING, neighbours, saved)

        def send(receiver: str, payload: bytes) -> None:
            self.sent.append((node, receiver, payload))
            self.waiting.append((node, receiver, payload))

        return PeerTalk(about, exchange, make, self.peers[node], self.stores[node], send)

    def begin(self) -> None:
        for talk in self.talks.values():
            talk.begin()

    def deliver(self, most: int = 100_000) -> None:
        while self.waiting and most:
            sender, receiver, payload = self.waiting.pop(0)
            self.talks[receiver].take(sender, decode_peer(payload))
            most -= 1

    def held_for(self, receiver: str) -> Tuple[str, str, bytes]:
        """A sealed message for a node that would be carried next."""
        while True:
            sender, to, payload = self.waiting[0]
            if to == receiver and decode_peer(payload).kind == SEALED:
                return sender, to, payload
            self.deliver(1)

    def answers(self) -> Dict[str, np.ndarray]:
        return {node: talk.answer() for node, talk in self.talks.items()}

    def sealed(self, sender: str, receiver: str) -> List[PeerFrame]:
        frames = [decode_peer(payload) for one, other, payload in self.sent if (one, other) == (sender, receiver)]
        return [frame for frame in frames if frame.kind == SEALED]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_confirmed_nodes_come_to_an_answer_and_the_broker_sees_no_more_than_sizes(tmp_path: Path) -> None:
    office = Office(tmp_path, enrolled=True)
    office.begin()
    office.deliver()
    assert all(talk.done for talk in office.talks.values())
    contents = [office.talks[node].agent.newest("b" if node != "b" else "a")[0][1] for node in NODES]
    wire = b"".join(payload for _, _, payload in office.sent)
    for content in contents:
        assert content[4:] not in wire
        assert content[4:28] not in wire, "not a weight of it"
    assert len({len(frame.content) for frame in office.sealed("a", "b")}) == 1, "its size says nothing"
    said = office.talks["a"].said()
    assert said["iterations"] == ITERATIONS
    sent, size, received, refused = said["neighbours"]["b"]
    frames = office.sealed("a", "b")
    assert (sent, size) == (len(frames), sum(len(encode_peer(frame)) for frame in frames))
    assert (received > ITERATIONS / 2, refused) == (True, 0)


def test_a_node_whose_key_its_owner_did_not_confirm_is_sent_nothing_and_not_believed(tmp_path: Path) -> None:
    office = Office(tmp_path, strangers=("c",))
    office.begin()
    reasons: List[str] = []
    while office.waiting:
        try:
            office.deliver()
        except WireError as error:
            reasons.append(f"{error.code}: {error}")
    assert reasons
    assert all(reason.startswith("message.peer: a message of c: ") and "confirmed" in reason for reason in reasons)
    assert not office.sealed("a", "c")
    assert not office.sealed("b", "c")
    assert not any(talk.done for talk in office.talks.values()), "they wait: c is in their graph"


def forged_hello(
    office: Office, as_node: str, signer: Peers, session: Optional[bytes] = None
) -> Tuple[PeerKey, PeerFrame]:
    session = session or office.talks["a"].session
    key = PeerKey(session, as_node)
    hello = Hello(99, key.public, signer.credential, b"")
    hello = hello._replace(signature=signer.sign(hello.signed(session, as_node)))
    return key, PeerFrame(HELLO, session, hello.encoded())


def test_a_gateway_that_certifies_a_key_of_its_own_under_a_neighbours_name_is_no_neighbour(tmp_path: Path) -> None:
    """It is the authority: the certificate is real. The owner's word is for another key."""
    office = Office(tmp_path, enrolled=True)
    puppet = office.issuer.peers(tmp_path / "puppet", "b", {})
    _, frame = forged_hello(office, "b", puppet)
    with pytest.raises(WireError, match="a message of b: .*confirmed"):
        office.talks["a"].take("b", frame)
    office.begin()
    office.deliver()
    assert office.talks["a"].done, "the true one is heard all the same"


def test_a_hello_that_another_node_signed_is_refused(office: Office) -> None:
    _, frame = forged_hello(office, "b", office.peers["c"])
    with pytest.raises(WireError, match="a message of b: "):
        office.talks["a"].take("b", frame)


def test_a_hello_is_for_one_run_and_one_task_as_all_were_shown_it(office: Office) -> None:
    other = peer_session("icu", "run", 2, "another task", b"")
    _, frame = forged_hello(office, "b", office.peers["b"], other)
    with pytest.raises(WireError, match="a message of b: its key is not signed"):
        office.talks["a"].take("b", frame._replace(session=office.talks["a"].session))
    assert office.talk("b", task="another").session != office.talks["a"].session
    views = {peer_session("icu", run, n, "d", v) for run in "xy" for n in (1, 2) for v in (b"1", b"2")}
    assert len(views) == 8


def test_a_stranger_is_no_neighbour_whatever_it_shows(office: Office) -> None:
    talk = office.talks["a"]
    with pytest.raises(WireError, match="a message of z, which is no neighbour"):
        talk.take("z", PeerFrame(HELLO, talk.session, b""))


CHANGES: Dict[str, Callable[[PeerFrame], PeerFrame]] = {
    "a bit": lambda frame: frame._replace(content=frame.content[:-1] + bytes([frame.content[-1] ^ 1])),
    "its number": lambda frame: frame._replace(content=bytes([1]) + frame.content[1:]),
    "short": lambda frame: frame._replace(content=frame.content[:20]),
    "empty": lambda frame: frame._replace(content=b""),
    "long": lambda frame: frame._replace(content=frame.content + bytes(1000)),
    "a hello with another content": lambda frame: frame._replace(kind=HELLO),
}


def test_a_message_that_was_changed_on_the_way_is_refused_by_name_and_changes_nothing(office: Office) -> None:
    office.begin()
    sender, _, payload = office.held_for("a")
    talk, before = office.talks["a"], office.talks["a"].agent.saved()
    for change in CHANGES.values():
        for _ in range(2 * MOST_WRONG):  # anybody can send such: the true one is heard all the same
            with pytest.raises(WireError, match=f"a message of {sender}: ") as found:
                talk.take(sender, change(decode_peer(payload)))
            assert found.value.code == "message.peer"
    assert talk.agent.saved() == before
    office.deliver()
    assert talk.done
    assert talk.said()["neighbours"][sender][3] == len(CHANGES) * 2 * MOST_WRONG


def test_what_was_sent_to_another_or_by_itself_or_before_is_not_opened(office: Office) -> None:
    office.begin()
    office.deliver(40)
    talk = office.talks["a"]
    before = talk.agent.saved()
    with pytest.raises(WireError, match="a message of b: "):
        talk.take("b", office.sealed("b", "c")[0])
    with pytest.raises(WireError, match="a message of b: "):
        talk.take("b", office.sealed("a", "b")[0])
    received, sent = talk.said()["neighbours"]["b"][2], len(office.sent)
    for frame in office.sealed("b", "a")[:2]:  # a replay
        talk.take("b", frame)
    assert talk.agent.saved() == before
    assert (talk.said()["neighbours"]["b"][2], len(office.sent)) == (received, sent), "nor answered"


def test_a_confirmed_node_that_sends_no_numbers_is_not_listened_to_any_more(office: Office) -> None:
    key, frame = forged_hello(office, "b", office.peers["b"])  # its own key, and a program of its own
    talk = office.talks["a"]
    sent_before = len(office.sent)
    talk.take("b", frame)
    hello = next(decode_peer(p) for s, r, p in office.sent[sent_before:] if (s, r) == ("a", "b"))
    channel = key.channel("a", read_hello(hello.content).public)
    nonsense = (1).to_bytes(4, "little") + np.full(2 * TERMS, np.nan).tobytes()
    for number in range(MOST_WRONG):
        with pytest.raises(WireError, match="a message of b: an iterate") as found:
            talk.take("b", PeerFrame(SEALED, talk.session, channel.seal(nonsense)))
        assert ("not listened to" in str(found.value)) == (number == MOST_WRONG - 1)
    talk.take("b", PeerFrame(SEALED, talk.session, channel.seal(nonsense)))  # without a word
    assert talk.said()["neighbours"]["b"][3] == MOST_WRONG


def test_a_node_that_was_killed_goes_on_with_new_keys_and_comes_to_the_same(tmp_path: Path) -> None:
    alone = Office(tmp_path / "one")
    alone.begin()
    alone.deliver()
    office = Office(tmp_path / "two", patience_s=0.0)
    office.begin()
    for _ in range(100_000):
        if office.talks["b"].agent.figures()["iterations"] >= 30:
            break
        office.deliver(1)
    office.waiting = [each for each in office.waiting if each[1] != "b"]  # what was under way to it is lost
    office.talks["b"] = office.talk("b")
    assert office.talks["b"].agent.figures()["iterations"] >= 20, "from what was kept"
    office.talks["b"].begin()
    for _ in range(100):
        office.deliver()
        for talk in office.talks.values():
            talk.tick(connected=True)
    assert all(talk.done for talk in office.talks.values())
    for node, answer in office.answers().items():
        assert np.abs(answer[1 : 1 + TERMS] - alone.answers()[node][1 : 1 + TERMS]).max() < 0.05


def test_a_run_has_one_exchange(office: Office) -> None:
    office.begin()
    with pytest.raises(WireError, match="other than the one there was"):
        office.talk("a", number=3)
    with pytest.raises(WireError, match="other than the one there was"):
        office.talk("a", question=hashlib.sha256(b"more records").hexdigest())
    office.stores["a"].exchanges.keep("run", b"made of records")
    office.stores["a"].exchanges.over("run")
    with contextlib.closing(sqlite3.connect(office.folder / "a-state.sqlite")) as database:
        assert database.execute("SELECT state FROM exchanges").fetchall() == [(b"",)], "what is made of records is gone"
    with pytest.raises(WireError, match="the exchange of run run is over"):
        office.talk("a")  # a gateway that ended the run shows it again


def test_a_node_is_sent_nothing_more_once_an_owner_withdrew_its_word(office: Office) -> None:
    office.begin()
    office.deliver(60)
    office.said["a"]["b"] = ""
    with pytest.raises(WireError):
        office.talks["a"].take("b", PeerFrame(HELLO, office.talks["a"].session, b""))
    office.talks["a"].check_confirmed()
    sent = len(office.sealed("a", "b"))
    for _ in range(500):
        office.deliver()
    assert len(office.sealed("a", "b")) == sent
    assert office.sealed("a", "c")


def test_nobody_loses_patience_while_the_broker_is_away(tmp_path: Path) -> None:
    office = Office(tmp_path, patience_s=0.0)
    office.begin()
    office.deliver(30)
    before = office.talks["a"].agent.saved()
    for _ in range(50):
        office.talks["a"].tick(connected=False)
    assert office.talks["a"].agent.saved() == before
    assert office.talks["a"].said()["missed"] == 0


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """Nodes amid an exchange."""
    office = Office(tmp_path_factory.mktemp("met"))
    office.begin()
    office.deliver(60)
    return office


@given(payload=st.binary(max_size=300), kind=st.sampled_from([HELLO, SEALED]), sender=st.sampled_from(["b", "c", "z"]))
@examples(150)
def test_whatever_comes_is_refused_by_name_and_changes_nothing(
    met: Office, payload: bytes, kind: int, sender: str
) -> None:
    talk = met.talks["a"]
    before = talk.agent.saved()
    frame = PeerFrame(kind, talk.session, payload)
    assert decode_peer(encode_peer(frame)) == frame
    with pytest.raises(WireError, match=f"a message of {sender}"):
        talk.take(sender, frame)
    with contextlib.suppress(WireError):
        decode_peer(payload)
    assert talk.agent.saved() == before
