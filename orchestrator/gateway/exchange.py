"""What nodes answered to the steps of secure rounds: kept in the store, the newest at hand, and what sessions are made of."""

from typing import Any, Dict, Iterator, List, Optional, Tuple, Type

from orchestrator.gateway.aggregation import MAX_MESSAGE_BYTES
from orchestrator.gateway.run_store import RunStore
from orchestrator.privacy.mask_graph import complete_up_to
from orchestrator.privacy.secure_sum import Advert, Session, session_id
from orchestrator.rounds.events import Arrived
from orchestrator.rounds.steps import KEYS, NEXT, PREPARED, REVEAL
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.message import M
from orchestrator.wire.protection import Aggregation as Protection
from orchestrator.wire.secure_steps import Form, Keys, Nonce

_FORM = "form"
"""Step under which the store keeps the numbers a session's vectors are made with."""


class Exchange:
    """Of one run. An `action` is anything with the round and the attempt that are asked about."""

    def __init__(self, store: RunStore, run: str, federation: str, protection: Protection) -> None:
        self._store, self._run, self._federation, self._protection = store, run, federation, protection
        self._all_neighbours = complete_up_to(protection.neighbours)
        self._noted: Dict[Tuple[int, int, str, str], Dict[str, Any]] = {}  # (round, attempt, step, node) -> header

    # Answers

    def put(self, event: Arrived, header: Dict[str, Any], body: bytes, next_step: str) -> None:
        """Stores an answer, with what it brings for `next_step` of the next round; inside the transaction of its event."""
        key = (event.round, event.attempt, event.step, event.node)
        self._store.put_answer(self._run, *key, body)
        self._noted[key] = header  # at hand: the next step is made of it
        if event.prepared:
            coming = (event.round + 1, PREPARED, next_step, event.node)
            self._store.put_answer(self._run, *coming, encode_body(header[NEXT], level=1))
            self._noted[coming] = header[NEXT]

    def keep_only(self, action: Any, step: str, nodes: List[str]) -> None:
        self._store.keep_answers(*self._key(action, step), nodes)

    def drop_up_to(self, number: int) -> None:
        """Of rounds that are over nothing is at hand any more."""
        self._noted = {key: header for key, header in self._noted.items() if key[0] > number}

    def nodes(self, action: Any, step: str) -> List[str]:
        """Who answered a step."""
        return self._store.answerers(*self._key(action, step))

    def body(self, action: Any, step: str, node: str = "") -> Optional[bytes]:
        return self._store.answer(*self._key(action, step), node)

    def bodies(self, action: Any, step: str) -> Iterator[Tuple[str, bytes]]:
        """(node, body) of every answer to a step, one after another."""
        yield from self._store.answers(*self._key(action, step))

    def headers(self, action: Any, step: str) -> List[Tuple[str, Dict[str, Any]]]:
        found = []
        for node in self.nodes(action, step):
            header = self._noted.get((action.round, action.attempt, step, node))
            if header is None:  # from before this process began
                body = self.body(action, step, node)
                assert body is not None
                header = decode_body(body, MAX_MESSAGE_BYTES)[0]
            found.append((node, header))
        return found

    def said(self, action: Any, step: str, of: Type[M]) -> Dict[str, M]:
        """node -> its answer, or what of it is of this class."""
        return {node: of.read(header) for node, header in self.headers(action, step)}

    def _key(self, action: Any, step: str) -> Tuple[str, int, int, str]:
        return self._run, action.round, action.attempt, step

    # The numbers an attempt's vectors are made with

    def form(self, action: Any) -> Optional[Form]:
        """What was fixed for an attempt; None before."""
        stored = self.body(action, _FORM)
        return None if stored is None else Form.read(decode_body(stored, MAX_MESSAGE_BYTES)[0])

    def fix(self, action: Any, form: Form) -> None:
        """Once for an attempt."""
        with self._store.transaction(durable=False):
            self._store.put_answer(*self._key(action, _FORM), "", encode_body(form.written()))

    # Sessions of masked rounds

    def session(self, action: Any) -> Session:
        protection = self._protection
        terms = (protection.neighbours, protection.least, protection.colluding)
        return Session(session_id(self._federation, self._run, action.round, action.attempt), *terms)

    def sparse(self, parties: int) -> bool:
        """Whether of so many not all are neighbours."""
        return parties > self._all_neighbours

    def parties(self, action: Any) -> Tuple[str, ...]:
        keyed = self.nodes(action, KEYS)
        return tuple(self.nonces(action)) if self.sparse(len(keyed)) else tuple(keyed)

    def adverts(self, action: Any) -> Dict[str, Keys]:
        """node -> its keys as nodes are shown them, in this session."""
        return self.said(action, KEYS, Keys)

    def nonces(self, action: Any) -> Dict[str, bytes]:
        """node -> the nonce it revealed and had committed to. One that revealed another would only keep all from going on."""
        session, adverts = self.session(action), self.adverts(action)
        revealed = {name: said.nonce for name, said in self.said(action, REVEAL, Nonce).items()}
        return {n: nonce for n, nonce in revealed.items() if Advert.of(n, adverts[n]).commits_to(session, nonce)}
