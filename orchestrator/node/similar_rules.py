"""`[similar]` of policy.toml: what others may learn of an owner's patients by a search for similar ones (privacy/similar.py)."""

from dataclasses import dataclass, field
from typing import Dict, List, Tuple

from orchestrator.privacy.similar_cells import COUNTS, DISTANCES, SHOWN, Shown
from orchestrator.wire.bounds import near
from orchestrator.wire.plain import many

NOTHING = "nothing"
MOST_WITHIN = 256


@dataclass(frozen=True)
class Similar:
    """`[similar]`: who may search among this owner's patients, and what a search shows.

    show: "nothing"; "counts" of patients within the largest distance, by class, with noise; or "distances", how many patients
    of each class are at each distance up to it, exactly. within: that largest distance, in bits. minimum_cell: patients of a
    class, with fewer of whom it is left out. epsilon_count: of the noise on a count, for each patient that is asked about.
    queries, a_day: for how many patients one querier may ask in all, and within 24 hours. queriers: name -> fingerprint of
    who may ask. coders: digests of those by which may be asked; what a distance says is for who made the coder to choose.
    """

    show: str = NOTHING
    within: int = 0
    minimum_cell: int = 5
    epsilon_count: float = 1.0
    queries: int = 0
    a_day: int = 0
    queriers: Dict[str, str] = field(default_factory=dict)
    coders: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = (NOTHING, *SHOWN)
        if self.show not in known:
            raise ValueError(f"show: {self.show!r}, expected of {', '.join(known)}{near(self.show, known)}")
        if not 0 <= self.within <= MOST_WITHIN:
            raise ValueError(f"within: {self.within}, expected 0 to {MOST_WITHIN} bits")
        if not 0.01 <= self.epsilon_count <= 20:
            raise ValueError(f"epsilon_count: {self.epsilon_count}, expected 0.01 to 20")
        for name in ("minimum_cell", "queries", "a_day"):
            if not 0 <= getattr(self, name) <= 1_000_000_000:
                raise ValueError(f"{name}: {getattr(self, name)}, expected 0 or more")
        for name, fingerprint in self.queriers.items():
            if not _is_digest(fingerprint):
                raise ValueError(
                    f"queriers: {name}: {fingerprint!r}, expected the 64 hex digits `edgeward node fingerprint` prints there"
                )
        for digest in self.coders:
            if not _is_digest(digest):
                raise ValueError(f"coders: {digest!r}, expected the 64 hex digits `edgeward similar coder` prints")

    @property
    def shown(self) -> Shown:
        """What an answer is made by."""
        return Shown(self.show, self.within, self.minimum_cell, self.epsilon_count)

    def objection(self, querier: str) -> str:
        """Why nobody with this fingerprint is answered; "" where somebody is."""
        if self.show == NOTHING:
            return "[similar] show: this owner lets nobody search (docs/policy.md)"
        if querier not in self.queriers.values():
            return f"[similar] queriers: nobody with the key {querier} may search here"
        return ""

    def objection_to_coder(self, coder: str) -> str:
        """Why nobody is answered by the coder with this digest; "" where somebody is."""
        if coder in self.coders:
            return ""
        return f"[similar] coders: {coder} is not one of them; add it once you know who made it, and of what (docs/policy.md)"

    def name_of(self, querier: str) -> str:
        """What this owner calls who has this fingerprint, whatever a question calls itself."""
        return next(name for name, fingerprint in self.queriers.items() if fingerprint == querier)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def similar_in_words(rules: Similar) -> List[str]:
    """One line a rule, for people."""
    if rules.show == NOTHING:
        return ["search for similar patients: nobody may"]
    bits = many(rules.within, "bit")
    what = {
        COUNTS: f"patients of each class within {bits}, with noise of epsilon {rules.epsilon_count:g} a question",
        DISTANCES: f"patients of each class at each distance up to {bits}, exactly",
    }[rules.show]
    who = ", ".join(sorted(rules.queriers)) or "nobody"
    return [
        f"search for similar patients: {what}",
        f"search: by {who}, each for {many(rules.queries, 'patient')} in all and {rules.a_day} a day",
        f"search: by the coders {', '.join(digest[:16] for digest in rules.coders) or 'none'}",
        f"search: classes of fewer than {max(1, rules.minimum_cell)} patients are left out",
    ]
