"""Whom a node's owner confirmed as its peers: names, and fingerprints of public keys that owners compare by phone.

A fingerprint is the SHA-256 of a public key, 64 hex digits: of its SubjectPublicKeyInfo (DER) where the key is in a
certificate, of the 32 raw bytes of an Ed25519 key where there are none (`edgeward node fingerprint` prints a node's own).
"""

from collections import Counter
from typing import Dict, List, Mapping, NamedTuple, Sequence, Set

from orchestrator.wire.protection import Aggregation

DIGITS = 64


class Roster(NamedTuple):
    """peers: name -> fingerprint, "" for a name nobody is admitted under; key_holder: fingerprint, or "" where none is named."""

    peers: Mapping[str, str]
    key_holder: str = ""

    def holder(self, name: str) -> str:
        """Fingerprint confirmed for the key holder `name`; "" where none is, or the owner's words do not agree."""
        words = {self.peers.get(name, self.key_holder), self.key_holder or self.peers.get(name, "")}
        return words.pop() if len(words) == 1 else ""

    def confirmed(self, own: str, aggregation: Aggregation) -> int:
        """Confirmed nodes that may be in a sum with the node `own`: neither itself nor the key holder."""
        apart = (own, aggregation.key_holder)
        return sum(
            bool(fingerprint) and name not in apart and fingerprint != self.key_holder
            for name, fingerprint in self.peers.items()
        )


NOBODY = Roster({})


def roster_of(policy: Mapping[str, str], key_holder: str, ledger: Mapping[str, str]) -> Roster:
    """What the policy and the ledger confirm together.

    Where both speak of a name they have to agree, and "" (the owner withdrew it) agrees with nothing; a key that stands
    under two names is nobody's.
    """
    said: Dict[str, Set[str]] = {}
    for source in (policy, ledger):
        for name, fingerprint in source.items():
            said.setdefault(name, set()).add(fingerprint)
    peers = {name: next(iter(found)) if len(found) == 1 else "" for name, found in said.items()}
    names = Counter(peers.values())
    return Roster({name: f if names[f] == 1 else "" for name, f in peers.items()}, key_holder)


def grouped(fingerprint: str) -> str:
    """For people: blocks of four digits."""
    return " ".join(fingerprint[i : i + 4] for i in range(0, len(fingerprint), 4))


def neighbour_lines(neighbours: Sequence[str], roster: Roster, first_sight: bool = False) -> List[str]:
    """For the owner who approves a task: whom this node sends messages. Empty without neighbours."""
    if not neighbours:
        return []
    found = {name: roster.peers.get(name, "") for name in neighbours}
    lines = [f"this node sends its messages to {len(neighbours)} neighbours in the task's graph"]
    unknown = "the first key this node sees of it" if first_sight else "not confirmed: this node waits"
    lines += [f"    {name}  {grouped(fingerprint) if fingerprint else unknown}" for name, fingerprint in found.items()]
    return lines


def roster_lines(aggregation: Aggregation, own: str, roster: Roster, first_sight: bool = False) -> List[str]:
    """For the owner who approves a task: with whom this node adds up, and who holds the key. Empty without secure sums."""
    if not aggregation.secure:
        return []
    peers = {n: f for n, f in sorted(roster.peers.items()) if f and n not in (own, aggregation.key_holder)}
    lines = [f"peers confirmed for sums over at least {aggregation.least} nodes: {len(peers)}"]
    lines += [f"    {name}  {grouped(fingerprint)}" for name, fingerprint in peers.items()]
    if aggregation.key_holder:
        confirmed = roster.holder(aggregation.key_holder)
        lines.append(f"key holder {aggregation.key_holder}: {grouped(confirmed) if confirmed else 'not confirmed'}")
    if first_sight:
        lines.append(
            "no policy: under other names the first key this node sees is accepted, which may be the gateway's own"
        )
    elif aggregation.key_holder:
        lines.append(
            "another key holder is refused; whose vectors are in a sum with this node's is the key holder's to check"
        )
    else:
        lines.append("anyone else is refused: this node sends nothing into a sum with them")
    return lines
