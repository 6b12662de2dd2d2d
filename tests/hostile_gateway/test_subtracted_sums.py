"""Attack: masked sums without noise over n nodes, then over all but one: the difference is that node's update. Promise: a node
opens no second sum of the same model over other nodes, and where its owner asks for it, none over other nodes in a run."""

from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np
import pytest
from inside import PARAMETERS, make_data, make_task, model
from test_certified_puppets import Peer

from orchestrator.errors import PrivacyError
from orchestrator.node.contribution import Contribution
from orchestrator.node.peers import Peers
from orchestrator.node.run import Run
from orchestrator.node.secure import MaskedRound
from orchestrator.node.store import NodeStore
from orchestrator.privacy.secure_sum import Advert, Party, Session, digest_of_announced, session_id
from orchestrator.privacy.vector_layout import Layout, bits_for, parts_of
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

VICTIM = "icu-1"
OTHERS = ("icu-2", "icu-3", "icu-4", "icu-5")
UNITS = 200
SHARED = Privacy(noise="distributed", noise_multiplier=1.0)


class Attacked:
    """One real node in masked rounds with peers that all work with the gateway, and so open every sum they can."""

    def __init__(
        self,
        folder: Path,
        steady: bool,
        privacy: Privacy = Privacy(unit="none"),  # noqa: B008 (immutable)
        task: Optional[Task] = None,
    ) -> None:
        secure, rules = Aggregation("masked", honest=3), Rounds(5, 3)
        training = Training("fedsgd", rounds=5, learning_rate=1.0, parameters=PARAMETERS)
        self.begin("run", task or make_task(training=training, privacy=privacy, aggregation=secure, rounds=rules))
        self.store = NodeStore(folder / "node.sqlite")
        self.store.before_release = lambda *_: None
        self.peers = Peers(VICTIM, self.store, first_sight=True)
        self.others = {name: Peer(name) for name in OTHERS}
        self.steady = steady

    def begin(self, run: str, task: Task) -> None:
        """From now on the victim is in this run."""
        data = make_data(40)
        self.task, self.run = task, Run(run, "digest", task, b"", data, data.take(np.zeros(40, bool)))

    def open(self, number: int, others: Sequence[str], weights: float) -> None:
        """The victim's part in a whole round with these others. Raises PrivacyError where it takes none."""
        self.open_from(number, others, model(weights=np.full(PARAMETERS, weights, np.float32)))

    def open_from(self, number: int, others: Sequence[str], changed: Dict[str, np.ndarray]) -> None:
        """The same, from all that the gateway announces with the round."""
        message = {"kind": "round", "run": self.run.id, "round": number, "attempt": 1}
        about = ("test", self.run, message, changed, VICTIM, self.peers, self.store, self._contribute)
        victim = MaskedRound(*about, steady=self.steady)
        secure = self.task.aggregation
        session = Session(session_id("test", self.run.id, number, 1), secure.neighbours, secure.least, secure.colluding)
        parties = {n: Party(session, n, self.others[n].key.sign, lambda *_: True) for n in others}
        adverts = {name: party.advertise() for name, party in parties.items()}
        keys: Dict[str, Any] = {
            a.party: {
                "channel": a.channel_key,
                "mask": a.mask_key,
                "signature": a.signature,
                "commitment": a.commitment,
            }
            for a in adverts.values()
        }
        for name in others:
            keys[name]["credential"] = self.others[name].credential
        own = victim.answer({"step": "keys"})[0]
        keys[VICTIM] = {key: own[key] for key in ("channel", "mask", "signature", "commitment", "credential")}
        adverts[VICTIM] = Advert(VICTIM, *(own[k] for k in ("channel", "mask", "signature", "commitment")))
        victims = victim.answer({"step": "shares", "adverts": keys})[0]["shares"]
        shares = {name: party.share(list(adverts.values())) for name, party in parties.items()}
        parts = parts_of(self.task, number, PARAMETERS)
        form = {"bits": bits_for(parts, UNITS, len(keys)), "parties": len(keys), "units": UNITS, "records": UNITS}
        layout = Layout(parts, *form.values())
        told = digest_of_announced(self.run.digest, layout.form, changed)
        victim.answer({"step": "masked", "shares": {n: s[VICTIM] for n, s in shares.items()}, **form})
        signatures = {}
        for name, party in parties.items():
            given = {n: s[name] for n, s in {**shares, VICTIM: victims}.items() if name in s}
            party.mask(np.zeros(layout.size, np.int64), given, layout.bits, told)
            signatures[name] = party.confirm(sorted(keys))
        signatures[VICTIM] = victim.answer({"step": "confirm", "survivors": sorted(keys)})[0]["signature"]
        assert victim.answer({"step": "unmask", "signatures": signatures})[0]["shares"]

    def _contribute(self, number: int, header: Any, tensors: Any, layout: Layout) -> Contribution:
        (part,) = layout.parts
        return Contribution({part.name: np.zeros(part.size, np.int64 if part.noisy else np.float32)}, {}, {})


FEWER = OTHERS[:3]


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize("second", [FEWER, OTHERS[1:]])
def test_no_second_sum_of_a_model_over_other_nodes(tmp_path: Path, second: Sequence[str], steady: bool) -> None:
    attacked = Attacked(tmp_path, steady)
    attacked.open(1, OTHERS, weights=0.5)
    with pytest.raises(PrivacyError):
        attacked.open(2, second, weights=0.5)


def test_a_model_changed_in_its_last_place_is_another_one_unless_the_owner_asks_for_one_set_of_nodes(
    tmp_path: Path,
) -> None:
    """What the rule about one model cannot see, `steady` does."""
    attacked = Attacked(tmp_path, steady=True)
    attacked.open(1, OTHERS, weights=0.5)
    with pytest.raises(PrivacyError):
        attacked.open(2, FEWER, weights=float(np.nextafter(np.float32(0.5), np.float32(1))))


def test_the_rule_outlives_the_process(tmp_path: Path) -> None:
    Attacked(tmp_path, steady=True).open(1, OTHERS, weights=0.5)
    again = Attacked(tmp_path, steady=True)
    with pytest.raises(PrivacyError):
        again.open(2, FEWER, weights=0.75)


@pytest.mark.parametrize("steady", [True, False])
def test_the_same_nodes_go_on(tmp_path: Path, steady: bool) -> None:
    """So that the refusals above are of who is in the sum."""
    attacked = Attacked(tmp_path, steady)
    for number in (1, 2, 3):
        attacked.open(number, OTHERS, weights=0.5 + number)


def test_sums_with_noise_may_be_over_changing_nodes(tmp_path: Path) -> None:
    attacked = Attacked(tmp_path, steady=True, privacy=SHARED)
    attacked.open(1, OTHERS, weights=0.5)
    attacked.open(2, FEWER, weights=0.5)
