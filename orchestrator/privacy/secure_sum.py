"""A sum that shows no summand: double masking (Bonawitz et al. 2017) on a k-regular graph (Bell et al. 2020, SecAgg+).

Every party hides its vector under a mask of its own and one for each neighbour; the neighbours' masks cancel in the sum, and what
dropouts leave is removed with Shamir shares that neighbours hold. Four steps, each one message up and one down:

    advertise  two public keys, signed with the party's long-term key
    share      shares of both secrets, encrypted for each neighbour
    mask       the vector, masked
    confirm    a signature under the list of survivors;   then   unmask   one share for each neighbour, and its own

Where everybody is everybody's neighbour, a party also signs with its vector whom it expects in the sum (`foresee`). If all of
them sent theirs, those signatures stand in for the step "confirm". There are two lists then that a party may have signed, but
it helps with one, once: it gives one share of each party, and to rebuild a secret it takes so many that two such groups have an
honest party in common. So of nobody are both secrets rebuilt, and a list that all on it foresaw is one among whom all of them
masked.

What it assumes: no more than `Session.colluding` parties help the aggregator, and signatures are authentic. What it does not
hide: the sum, and who took part. What it does not stop: a party that sends nonsense. Keys are fresh in every session.

Masks also depend on what parties were told: an aggregator that gives some another model, or another scale for their values, so
that their part in the sum vanishes and another's stands alone (Pasquini et al. 2022), gets masks that do not cancel.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from typing import Callable, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.errors import PrivacyError
from orchestrator.privacy.ring import mask_of, pack, to_ring, unpack, word_of
from orchestrator.privacy.shamir import SECRET_BYTES, SHARE_BYTES, combine_shares, split_secret

LEAST_SURVIVORS = 3
"""A sum of one is that party's vector, and of two each knows the other's."""

SELF, PAIR = b"b", b"s"
"""Kinds of shares: of the mask a party drew for itself, and of the key its pairwise masks come from."""

MODEL = ("weights", "mean", "std")
"""Names of what a round starts from, which all parties must have got alike."""

CERTIFICATES = "certificates"
"""Name, beside these, of what stands for the certificate log that all parties must have been shown alike."""

Sign = Callable[[bytes], bytes]
Verify = Callable[[str, bytes, bytes], bool]
"""(party, message, signature) -> whether that party signed it."""


class Ring(NamedTuple):
    """The form of the vectors: `size` values modulo 2^bits."""

    bits: int
    size: int


@dataclass(frozen=True)
class Session:
    """What all parties of one sum agree on before it begins. id: names federation, run, round and attempt, never used twice."""

    id: bytes
    degree: int  # neighbours of each party, or all others where there are fewer
    least: int = LEAST_SURVIVORS  # a sum over fewer is not opened
    colluding: int = 0  # parties that may help the aggregator

    def key(self, secret: bytes, purpose: bytes) -> bytes:
        """32 bytes for one purpose of this session (HKDF-SHA256): nothing of another session comes out the same."""
        return HKDF(hashes.SHA256(), 32, salt=self.id, info=b"edgeward secure sum/" + purpose).derive(secret)

    def among(self, told: bytes, adverts: Iterable["Advert"]) -> "Session":
        """The session of those who were told the same (`digest_of_told`) and the same keys: only their masks cancel."""
        keys = _counted(*(part for a in sorted(adverts) for part in (a.party.encode(), a.channel_key, a.mask_key)))
        return replace(self, id=hashlib.sha256(b"edgeward told\0" + self.id + _counted(told, keys)).digest())

    def majority(self, parties: int) -> int:
        """So many of `parties` that of two such groups at least one honest party is in both."""
        return (parties + self.colluding) // 2 + 1


def mask_from(seed: bytes, ring: Ring) -> np.ndarray:
    """Words (size,), AES-256 in counter mode. All their bits are random; sums are cut to the ring, which divides them."""
    word = word_of(ring.bits)
    buffer = np.zeros(ring.size + 16 // word.itemsize, word)
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    stream.update_into(bytes(word.itemsize * ring.size), buffer.data.cast("B"))
    return buffer[: ring.size]


@dataclass(frozen=True, order=True)
class Advert:
    """A party's public keys for one session, signed."""

    party: str
    channel_key: bytes
    mask_key: bytes
    signature: bytes

    def signed(self, session: Session) -> bytes:
        return b"edgeward keys" + session.id + _counted(self.party.encode(), self.channel_key, self.mask_key)


def session_id(federation: str, run: str, number: int, attempt: int) -> bytes:
    """32 bytes that name one attempt at one round, the same for all nodes and the gateway."""
    text = f"{federation}\0{run}\0{number}\0{attempt}".encode()
    return hashlib.sha256(b"edgeward session\0" + text).digest()


def digest_of_told(task: str, form: Iterable[int], model: Mapping[str, np.ndarray]) -> bytes:
    """32 bytes. task: digest of task and graph; form: the numbers vectors are made with; model: what the round starts from."""
    tensors = (part for name in sorted(model) for part in (name.encode(), np.ascontiguousarray(model[name]).tobytes()))
    numbers = ",".join(str(number) for number in form)
    return hashlib.sha256(_counted(task.encode(), numbers.encode(), *tensors)).digest()


_ANY_KEY = X25519PrivateKey.generate()


def usable_key(public: bytes) -> bool:
    """Whether a secret can be agreed on with this X25519 key: not with one of small order, or of another length."""
    try:
        _ANY_KEY.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return False
    return True


def survivors_message(session: Session, survivors: Iterable[str], foreseen: bool = False) -> bytes:
    kind = b"edgeward foreseen" if foreseen else b"edgeward survivors"
    return kind + session.id + _counted(*(name.encode() for name in sorted(survivors)))


def _counted(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class Graph:
    """Who is whose neighbour: a ring in an order nobody chose, each connected to the next degree/2 on either side.

    The order follows from a hash of all advertised keys, so the aggregator cannot place a party among its accomplices.
    """

    def __init__(self, session: Session, adverts: Mapping[str, Advert]) -> None:
        seed = hashlib.sha256(session.id + b"".join(adverts[n].mask_key for n in sorted(adverts))).digest()
        self._order = sorted(adverts, key=lambda n: hashlib.sha256(seed + n.encode()).digest())
        self._place = {name: i for i, name in enumerate(self._order)}
        self._session = session
        self._half = min(-(-session.degree // 2), len(self._order))
        self._numbers = {name: i for i, name in enumerate(sorted(adverts), 1)}

    def neighbours(self, party: str) -> Tuple[str, ...]:
        count, here = len(self._order), self._place[party]
        if self.complete:
            return tuple(sorted(n for n in self._order if n != party))
        steps = [s for s in range(-self._half, self._half + 1) if s]
        return tuple(sorted(self._order[(here + s) % count] for s in steps))

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return 2 * self._half >= len(self._order) - 1

    def threshold(self, party: str) -> int:
        """How many of a party's neighbours and itself can rebuild its secrets together.

        More than half of them and those who collude where all are neighbours (Bonawitz et al. 2017, section 4). More than a
        third and those who collude on a sparse graph, where half of so few would too often be gone; that no party's two
        secrets are both rebuilt rests on the signed list of survivors there.
        """
        holders = len(self.neighbours(party)) + 1
        return self._session.majority(holders) if self.complete else holders // 3 + 1 + self._session.colluding

    def number(self, party: str) -> int:
        """The party's abscissa in Shamir's scheme."""
        return self._numbers[party]


class Party:
    """One side of one session. Each step once, in order; PrivacyError for anything that would give the vector away."""

    def __init__(self, session: Session, name: str, sign: Sign, verify: Verify) -> None:
        self._session, self._name, self._sign, self._verify = session, name, sign, verify
        self._channel, self._pair = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self._own_seed = os.urandom(SECRET_BYTES)
        self._adverts: Dict[str, Advert] = {}
        self._graph: Optional[Graph] = None
        self._held: Dict[str, Tuple[bytes, bytes]] = {}  # neighbour -> shares of (its own seed, its pairwise key)
        self._secrets: Dict[
            str, Tuple[bytes, bytes]
        ] = {}  # neighbour -> secrets shared with it: of the channel, of masks
        self._expected: FrozenSet[str] = frozenset()
        self._foreseen: Optional[FrozenSet[str]] = None
        self._survivors: Optional[FrozenSet[str]] = None
        self._done: List[str] = []

    def advertise(self) -> Advert:
        self._once("advertise", ())
        keys = (self._channel.public_key().public_bytes_raw(), self._pair.public_key().public_bytes_raw())
        bare = Advert(self._name, *keys, b"")
        return Advert(self._name, *keys, self._sign(bare.signed(self._session)))

    def share(self, adverts: Sequence[Advert]) -> Dict[str, bytes]:
        """neighbour -> encrypted shares, from the adverts of all parties of the session."""
        self._once("share", ("advertise",))
        for advert in adverts:
            if advert.party in self._adverts:
                raise PrivacyError(f"two sets of keys for {advert.party}")
            self._adverts[advert.party] = advert
        self.check_signatures()
        mine = self._adverts.get(self._name)
        keys = tuple(key.public_key().public_bytes_raw() for key in (self._channel, self._pair))
        if mine is None or (mine.channel_key, mine.mask_key) != keys:
            raise PrivacyError("the aggregator changed this party's own keys")
        if len(self._adverts) < LEAST_SURVIVORS:
            raise PrivacyError(f"a sum over {len(self._adverts)} parties shows what each of them sent")
        if len(self._adverts) < self._session.least:
            raise PrivacyError(f"{len(self._adverts)} parties, the task declares at least {self._session.least}")
        graph = self._graph = Graph(self._session, self._adverts)
        neighbours, threshold = graph.neighbours(self._name), graph.threshold(self._name)
        if threshold > len(neighbours) + 1:
            raise PrivacyError(
                f"{len(neighbours)} neighbours are too few where {self._session.colluding} parties may help the aggregator"
            )
        for name in neighbours:
            self._secrets[name] = self._agree(self._adverts[name])
        numbers = [graph.number(n) for n in (*neighbours, self._name)]
        own = split_secret(self._own_seed, numbers, threshold)
        pair = split_secret(self._pair.private_bytes_raw(), numbers, threshold)
        number = graph.number(self._name)
        self._held[self._name] = (own[number], pair[number])
        return {n: self._encrypt(n, own[graph.number(n)] + pair[graph.number(n)]) for n in neighbours}

    def check_signatures(self) -> None:
        """Raises PrivacyError unless all other parties' keys are signed by who they are now believed to be."""
        for advert in self._adverts.values():
            known = advert.party == self._name  # its keys are compared in `share`
            if not known and not self._verify(advert.party, advert.signed(self._session), advert.signature):
                raise PrivacyError(f"the keys of {advert.party} are not signed by {advert.party}")

    def mask(self, values: np.ndarray, shares: Mapping[str, bytes], bits: int, told: bytes = b"") -> bytes:
        """Whole numbers (size,), masked and packed in `bits` each. `shares`: what the neighbours still here encrypted for it.

        `told`: digest of what all parties must have been told alike; what follows fits only those of whom it is the same.
        """
        self._once("mask", ("advertise", "share"))
        graph = self._need_graph()
        neighbours = set(graph.neighbours(self._name))
        if not set(shares) <= neighbours:
            raise PrivacyError(f"shares of {', '.join(sorted(set(shares) - neighbours))}, which is no neighbour")
        # Those it does not mask with must not be enough to give its own mask away, or an aggregator that loses all others
        # would have its vector. It need not be in the sum for that.
        apart, threshold = len(neighbours) - len(shares) + self._session.colluding, graph.threshold(self._name)
        if len(shares) + 1 < threshold or apart >= threshold:
            raise PrivacyError(f"{len(shares)} of {len(neighbours)} neighbours left: too few to mask under")
        for sender, cipher in shares.items():
            plain = self._decrypt(sender, cipher)
            self._held[sender] = (plain[:SHARE_BYTES], plain[SHARE_BYTES:])
        self._session = self._session.among(told, self._adverts.values())
        self._expected = frozenset([*shares, self._name])
        ring = Ring(bits, values.size)
        total = to_ring(values, bits) + mask_from(self._session.key(self._own_seed, SELF), ring)
        for other in sorted(shares):
            pairwise = mask_from(self._session.key(self._secrets[other][1], PAIR), ring)
            (np.add if self._name < other else np.subtract)(total, pairwise, out=total)
        return pack(total & mask_of(bits), bits)

    def foresee(self) -> Optional[bytes]:
        """A signature under those whose vectors this party expects in the sum; None where that must be seen first."""
        self._once("foresee", ("mask",))
        if not self._need_graph().complete or len(self._expected) < max(LEAST_SURVIVORS, self._session.least):
            return None
        self._foreseen = self._expected
        return self._sign(survivors_message(self._session, self._foreseen, foreseen=True))

    def confirm(self, survivors: Sequence[str]) -> bytes:
        """A signature under the list of parties whose vectors are in the sum; only ever for one list."""
        if "unmask" in self._done:
            raise PrivacyError("this party has helped to open the sum already")
        self._once("confirm", ("mask",))
        names = frozenset(name for name in survivors if isinstance(name, str))
        if len(names) != len(survivors) or not names <= set(self._adverts):
            raise PrivacyError("the list of survivors names someone twice, or a stranger")
        if self._name not in names:
            raise PrivacyError("this party's vector is not in the sum: it will not help to open it")
        apart = (names & set(self._need_graph().neighbours(self._name))) - self._expected
        if apart:
            raise PrivacyError(
                f"with {', '.join(sorted(apart))} in the sum this party shares no mask: it was told they were gone"
            )
        if len(names) < LEAST_SURVIVORS:
            raise PrivacyError(f"a sum over {len(names)} parties shows what each of them sent")
        if len(names) < self._session.least:
            raise PrivacyError(
                f"{len(names)} parties are in the sum; fewer than the declared {self._session.least} carry too little noise"
            )
        self._survivors = names
        return self._sign(survivors_message(self._session, names))

    def unmask(self, signatures: Mapping[str, bytes], foreseen: bool = False) -> Dict[str, Tuple[bytes, bytes]]:
        """party -> (kind, share): of its own mask if it survived, else of its pairwise key. Never both of one party.

        `signatures`: of survivors under the same list. Unless more than half of all parties signed it this one refuses: with
        honest parties signing one list only, there cannot be two such lists. `foreseen`: the list is the one this party
        foresaw, which everybody on it must have signed, and this one confirmed no other.
        """
        if foreseen and "confirm" in self._done:
            raise PrivacyError("this party has confirmed a list of survivors: what it foresaw does not count any more")
        self._once("unmask", ("foresee" if foreseen else "confirm",))
        survivors = self._foreseen if foreseen else self._survivors
        if survivors is None:
            raise PrivacyError("this party foresaw no list of survivors")
        message = survivors_message(self._session, survivors, foreseen)
        agreeing = [
            n
            for n, signature in signatures.items()
            if n in survivors and (n == self._name or self._verify(n, message, signature))
        ]
        needed = max(self._session.majority(len(self._adverts)), len(survivors) if foreseen else 0)
        if len(agreeing) < needed:
            raise PrivacyError(f"{len(agreeing)} parties signed this list of survivors, {needed} are needed")
        return {n: (SELF, own) if n in survivors else (PAIR, pair) for n, (own, pair) in self._held.items()}

    def _once(self, step: str, before: Tuple[str, ...]) -> None:
        if step in self._done or any(b not in self._done for b in before):
            raise PrivacyError(f"step {step!r} after {self._done}: each step comes once, in order")
        self._done.append(step)

    def _need_graph(self) -> Graph:
        if self._graph is None:
            raise PrivacyError("no keys of the other parties yet")
        return self._graph

    def _agree(self, advert: Advert) -> Tuple[bytes, bytes]:
        pairs = ((self._channel, advert.channel_key), (self._pair, advert.mask_key))
        try:
            channel, mask = (key.exchange(X25519PublicKey.from_public_bytes(public)) for key, public in pairs)
        except ValueError as error:
            raise PrivacyError(f"with the keys of {advert.party} no secret can be agreed on") from error
        return channel, mask

    def _channel_cipher(self, other: str, sender: str, receiver: str) -> AESGCM:
        secret = self._secrets[other][0]
        return AESGCM(self._session.key(secret, b"channel/" + _counted(sender.encode(), receiver.encode())))

    def _encrypt(self, receiver: str, plain: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._channel_cipher(receiver, self._name, receiver).encrypt(nonce, plain, None)

    def _decrypt(self, sender: str, cipher: bytes) -> bytes:
        try:
            plain = self._channel_cipher(sender, sender, self._name).decrypt(cipher[:12], cipher[12:], None)
        except (InvalidTag, ValueError) as error:
            raise PrivacyError(f"shares of {sender} were changed on the way") from error
        if len(plain) != 2 * SHARE_BYTES:
            raise PrivacyError(f"{sender} sent {len(plain)} bytes of shares, not {2 * SHARE_BYTES}")
        return bytes(plain)


def pair_mask(session: Session, private: X25519PrivateKey, public: bytes, ring: Ring) -> np.ndarray:
    """The mask two parties share; each can make it with its own private and the other's public key."""
    return mask_from(session.key(private.exchange(X25519PublicKey.from_public_bytes(public)), PAIR), ring)


class Aggregator:
    """The side that learns the sum. Adds masked vectors as they come: memory does not grow with the number of parties."""

    def __init__(self, session: Session, adverts: Sequence[Advert], ring: Ring, told: bytes = b"") -> None:
        self._session, self._ring = session.among(told, adverts), ring
        self._adverts = {advert.party: advert for advert in adverts}
        self._graph = Graph(session, self._adverts)
        self._shared: Dict[str, Dict[str, bytes]] = {}
        self._total = np.zeros(ring.size, word_of(ring.bits))
        self._survivors: List[str] = []

    def take_shares(self, party: str, shares: Mapping[str, bytes]) -> None:
        if set(shares) != set(self._graph.neighbours(party)):
            raise PrivacyError(f"{party} did not share with exactly its neighbours")
        self._shared[party] = dict(shares)

    def shares_for(self, party: str) -> Dict[str, bytes]:
        """What the parties that have shared encrypted for `party`: the same answer must go out only once all have come."""
        return {n: self._shared[n][party] for n in self._graph.neighbours(party) if n in self._shared}

    def take_masked(self, party: str, masked: bytes) -> None:
        if party not in self._shared or party in self._survivors:
            raise PrivacyError(f"{party} sent a vector {'twice' if party in self._survivors else 'without shares'}")
        self._total += unpack(masked, self._ring.bits, self._ring.size)
        self._survivors.append(party)

    @property
    def survivors(self) -> List[str]:
        return sorted(self._survivors)

    def open(self, answers: Mapping[str, Mapping[str, Tuple[bytes, bytes]]]) -> np.ndarray:
        """Words (size,): the sum in the ring. `answers`: party -> what its `unmask` gave.

        Raises PrivacyError naming the party whose mask cannot be removed when too few of its neighbours answered.
        """
        total = self._total.copy()
        alive = set(self._survivors)
        for party in sorted(self._shared):
            kind = SELF if party in alive else PAIR
            shares = {
                self._graph.number(holder): given[party][1]
                for holder, given in answers.items()
                if party in given and given[party][0] == kind
            }
            try:
                secret = combine_shares(shares, self._graph.threshold(party))
            except ValueError as error:
                raise PrivacyError(f"the mask of {party} cannot be removed: {error}") from error
            if kind == SELF:
                total -= mask_from(self._session.key(secret, SELF), self._ring)
                continue
            private = X25519PrivateKey.from_private_bytes(secret)
            if private.public_key().public_bytes_raw() != self._adverts[party].mask_key:
                raise PrivacyError(f"the shares of {party}'s key do not give its key: somebody sent a wrong one")
            for other in self._graph.neighbours(party):
                if other in alive:
                    pairwise = pair_mask(self._session, private, self._adverts[other].mask_key, self._ring)
                    (np.subtract if other < party else np.add)(total, pairwise, out=total)
        return np.asarray(total & mask_of(self._ring.bits))
