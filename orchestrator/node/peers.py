"""Who the other nodes of a secure sum are, so that the gateway cannot stand between them or be all of them.

A peer is its public key, and the owner says whose key it is (node/roster.py): by a policy, or by a confirmation in the ledger.
With an identity a node shows its enrolment certificate and signs with its key; a certificate of the federation's authority
under the right name is then necessary, and never enough: a gateway that is the authority certifies any key under any name.
Without an identity a node makes an Ed25519 key of its own. Keys that nobody confirmed wait in the node's store.

`first_sight` is for a node whose owner set no rules: it accepts the first key it sees under a name and keeps to it. A gateway
that lied from the very first round on is then not found out, and statements say so.
"""

import datetime
import hashlib
import json
import logging
from typing import Any, Callable, Collection, Dict, Mapping, Optional, Sequence, Tuple, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.errors import PeerError, WireError
from orchestrator.node.credentials import Shown, read_credential
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.roster import NOBODY, Roster
from orchestrator.node.store import NodeStore
from orchestrator.wire import transparency
from orchestrator.wire.pki import key_fingerprint
from orchestrator.wire.protection import Aggregation

log = logging.getLogger("edgeward.node")

UNCONFIRMED = "a party was not confirmed by this node's owner (on the node: edgeward node peers)"
TOO_FEW = "this node's owner confirmed fewer peers than the task needs (on the node: edgeward node peers)"
NO_NEIGHBOUR = (
    "a neighbour in the task's graph was not confirmed by this node's owner (on the node: edgeward node peers)"
)
NOT_LOGGED = "a party's certificate is not the newest of its name in the certificate log this node knows"
OTHER_LOG = "the certificate log does not continue the one this node saw before"
NO_LOG = "the task came without the certificate log, and nothing else shows whom the authority certified as this node's peers"

GATEWAY = "gateway"


class Peers:
    """This node's credential and signature, and those of others: `admit` comes before `verify`.

    roster: whom the owner confirmed; it is asked again in every step, so that what the owner says counts without a restart.
    first_sight: also accept the first key seen under a name of which the owner said nothing.
    """

    def __init__(
        self,
        name: str,
        store: NodeStore,
        identity: Optional[NodeIdentity] = None,
        roster: Callable[[], Roster] = lambda: NOBODY,
        first_sight: bool = False,
    ) -> None:
        self._name, self._store, self._read_roster, self.first_sight = name, store, roster, first_sight
        self._roster = NOBODY
        self._names: Dict[str, str] = {}  # by fingerprint: of confirmed keys, and of those admitted
        self._admitted: Dict[str, Shown] = {}
        self._pinned: Dict[str, str] = {}  # by name, what the store was asked about in this process
        self._authority: Optional[x509.Certificate] = None
        if identity is None:
            own = Ed25519PrivateKey.from_private_bytes(store.secret("peer-signing"))
            self.credential = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            self.sign: Callable[[bytes], bytes] = own.sign
            self.fingerprint = hashlib.sha256(self.credential).hexdigest()
        else:
            key, certificate, self._authority = identity.for_peers()
            self.credential = certificate.public_bytes(Encoding.DER)
            self.sign = lambda message: key.sign(message, ec.ECDSA(hashes.SHA256()))
            self.fingerprint, self._serial = key_fingerprint(key.public_key()), format(certificate.serial_number, "x")
        self._log = transparency.read_log([json.loads(entry) for entry in store.peers.certificates()])
        self._newest = transparency.newest_of(self._log)

    @property
    def certified(self) -> bool:
        return self._authority is not None

    def admit(self, party: str, credential: bytes, key_holder: bool = False) -> None:
        """Raises PeerError when `credential` is not one this node can believe to be `party`'s."""
        self.admit_all({party: credential}, key_holder=key_holder)

    def admit_all(self, credentials: Mapping[str, bytes], seen: Optional[int] = None, key_holder: bool = False) -> None:
        """Admits all parties of a sum, or raises PeerError.

        seen: entries of the certificate log that the run goes by (`see_log`); certificates beyond them are refused, since
        other nodes may not know of them. key_holder: in this role, and not as one whose vector is in the sum.
        """
        self.refresh()
        for party, credential in credentials.items():
            self._admit(party, credential, seen, key_holder)

    def refresh(self) -> None:
        """Asks again whom the owner confirmed; those who are no longer among them are not believed from here on."""
        self._roster, admitted, self._admitted = self._read_roster(), self._admitted, {}
        self._names = {fingerprint: name for name, fingerprint in self._roster.peers.items() if fingerprint}
        for party, shown in admitted.items():
            if self._objection(party, shown) or not self._accepts(party, shown):
                log.warning("%s is no longer admitted as a peer", party)
            else:
                self._keep(party, shown)

    def verify(self, party: str, message: bytes, signature: bytes) -> bool:
        known = self._admitted.get(party)
        return known is not None and known.check(message, signature)

    def objection_to(self, aggregation: Aggregation) -> str:
        """Why no sum of a task could be opened with the peers confirmed by now, a fixed text; "" where one could."""
        if self.first_sight or not aggregation.secure:
            return ""
        roster = self._read_roster()
        holder = aggregation.key_holder
        if holder and not roster.holder(holder):
            return TOO_FEW
        return "" if aggregation.least <= 1 + roster.confirmed(self._name, aggregation) else TOO_FEW

    def objection_to_neighbours(self, names: Sequence[str]) -> str:
        """Why no messages can be exchanged with all of these by now, a fixed text; "" where they can."""
        said = self._read_roster().peers
        return "" if self.first_sight or all(said.get(name) for name in names) else NO_NEIGHBOUR

    def note_unconfirmed(self, apart: Collection[str] = ()) -> None:
        """Notes whom the certificate log names, but for `apart`, and the owner has not spoken of, for `edgeward node peers`."""
        said = self._read_roster().peers
        for name, entry in self._newest.items():
            if name not in (self._name, *apart, *said) and entry.key:
                self._note_pending(name, entry.key)

    def see_log(self, entries: Sequence[transparency.Entry], needed: bool = False) -> int:
        """Notes what a run's task shows of the certificate log (`transparency.read_log`); how many entries the run goes by.

        needed: for a secure sum. A gateway that is the authority and showed no log could certify puppets without a trace.

        It may end before what this node saw before, with another run: what is revoked by then stays revoked here. Raises
        PeerError where it differs from what this node saw, is not the authority's, names another key under this
        node's own name, or is needed and not there. Without an identity there is no log, and nothing is noted.
        """
        if self._authority is None:
            return 0
        if not entries:
            if needed:
                raise PeerError(NO_LOG, "peers.log")
            return 0
        if entries[-1].seq <= len(self._log):
            if tuple(entries) != self._log[entries[0].seq - 1 : entries[-1].seq]:
                log.error("the gateway shows another certificate log than before")
                raise PeerError(OTHER_LOG, "peers.log")
            return entries[-1].seq
        try:
            new = transparency.check_extends(transparency.head_of(self._log), entries)
            transparency.check_signed(new, _elliptic(self._authority))
            transparency.check_keys((*self._log, *new), GATEWAY)
        except WireError as error:
            log.error("the gateway shows another certificate log than before: %s", error)
            raise PeerError(OTHER_LOG, "peers.log") from error
        whole = (*self._log, *new)
        self._check_own(whole)
        self._store.peers.add_certificates({entry.seq: json.dumps(entry._asdict()) for entry in new})
        self._log, self._newest = whole, transparency.newest_of(whole)
        return len(whole)

    def view(self, seen: Optional[int] = None) -> bytes:
        """32 bytes for the certificate log up to entry `seen`, all of it without; constant without an identity.

        To be mixed into what all nodes of a sum must have been announced alike. Raises PeerError for entries this node
        has not seen.
        """
        if self._authority is None:
            return transparency.view_of(transparency.EMPTY)
        count = len(self._log) if seen is None else seen
        if not 0 <= count <= len(self._log):
            raise PeerError("the round names entries of the certificate log that this node has not seen")
        return transparency.view_of(transparency.head_of(self._log[:count]))

    def _check_own(self, entries: Sequence[transparency.Entry]) -> None:
        """Nobody else may have, or get, a certificate under this node's name: not after its own, and not beside it."""
        issued = [e for e in entries if e.name == self._name and e.event == transparency.ISSUED]
        own = [e for e in issued if e.serial == self._serial and e.key in ("", self.fingerprint)]
        valid = transparency.newest_of(entries).get(self._name)
        later = [e for e in issued if own and e.seq > own[0].seq and e.key != self.fingerprint]
        if not own or later or valid is None or valid.serial != self._serial:
            log.error("the certificate log has no certificate of this node, or another key under its name: %s", issued)
            raise PeerError(
                "the certificate log does not name this node's key as the only one under its name", "peers.log"
            )

    def _admit(self, party: str, credential: bytes, seen: Optional[int], key_holder: bool) -> None:
        known = self._admitted.get(party)
        if known is None or known.credential != credential:
            known = read_credential(party, credential, self._authority)
        shown = known._replace(seen=seen, key_holder=key_holder)
        objection = self._objection(party, shown)
        if objection:
            raise PeerError(objection)
        if not self._accepts(party, shown):
            self._note_pending(party, shown.fingerprint)
            raise PeerError(UNCONFIRMED)
        if party != self._name and not self._said(party, shown):
            self._pin(party, shown)
        self._keep(party, shown)

    def _keep(self, party: str, shown: Shown) -> None:
        before = self._admitted.get(party)
        if before is not None and before.fingerprint not in self._roster.peers.values():
            self._names.pop(before.fingerprint, None)
        self._admitted[party], self._names[shown.fingerprint] = shown, party

    def _objection(self, party: str, shown: Shown) -> str:
        """What no word of the owner outweighs: a certificate out of date or not in the log, one key under two names."""
        if shown.certificate is not None:
            now, until = datetime.datetime.now(datetime.timezone.utc), shown.certificate.not_valid_after_utc
            if not shown.certificate.not_valid_before_utc <= now <= until:
                return f"the certificate of {party} is not valid now (until {until:%Y-%m-%d})"
        fingerprint = shown.fingerprint
        if party == self._name:
            return "" if fingerprint == self.fingerprint else "another key is shown under this node's own name"
        if fingerprint == self.fingerprint or self._names.get(fingerprint, party) != party:
            return f"{party} shows the key of another name"
        if not shown.key_holder and fingerprint == self._roster.key_holder:
            return f"{party} shows the key holder's key, whose vector is in no sum"
        return self._unlogged(party, shown)

    def _unlogged(self, party: str, shown: Shown) -> str:
        if not self._log or shown.certificate is None:
            return ""
        entry = self._newest.get(party)
        if (
            entry is None
            or int(entry.serial, 16) != shown.certificate.serial_number
            or entry.key not in ("", shown.fingerprint)
            or (shown.seen is not None and entry.seq > shown.seen)
        ):
            return NOT_LOGGED
        return ""

    def _said(self, party: str, shown: Shown) -> Tuple[str, ...]:
        """What the owner said about this party's key: fingerprints, or "" for a name that is distrusted."""
        roster = self._roster
        role = (roster.key_holder,) if shown.key_holder and roster.key_holder else ()
        return (*((roster.peers[party],) if party in roster.peers else ()), *role)

    def _accepts(self, party: str, shown: Shown) -> bool:
        """Whether this key is what the owner said, or the owner said nothing and lets the node decide."""
        said = self._said(party, shown)
        if party == self._name:
            return True
        return all(word == shown.fingerprint for word in said) if said else self.first_sight

    def _pin(self, party: str, shown: Shown) -> None:
        if self._pinned.get(party) == shown.fingerprint:
            return
        if self._store.peers.pinned_as(shown.key) not in (None, party):
            raise PeerError(f"{party} shows the key of another name")
        if self._store.peers.pin(party, shown.key) != shown.key:
            self._note_pending(party, shown.fingerprint)
            raise PeerError(
                f"{party} has another key than when this node first met it: another node, or the gateway lies"
            )
        self._pinned[party] = shown.fingerprint

    def _note_pending(self, party: str, fingerprint: str) -> None:
        if self._store.peers.note_pending(party, fingerprint):
            log.warning(
                "peer %s is not admitted; if its owner says by phone that this is its key: "
                "edgeward node peers trust %s %s (with this node's --state)",
                party,
                party,
                fingerprint,
            )


def _elliptic(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key: Union[ec.EllipticCurvePublicKey, Any] = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise WireError("the authority has another kind of key than this federation uses")
    return key
