"""What a sum costs in the clear, under secure aggregation and under CKKS, and what an encrypted linear score costs.

python benchmarks/encryption.py [--parties 4 10] [--values 100000] [--repeats 5] [--json]

One process, no network, one thread, all ways in one run on the same vectors; seconds are of CPU, medians over the repeats. A
party's are the slowest party's. Plain: float32, added. Secure aggregation: secure_sum.py with all as neighbours, nobody drops
out, 32-bit ring, grid 2^-23; Ed25519. CKKS: ckks.py, same ring and grid: masked vectors for the server, pads for the key holder.
Bytes up are what a party sends, whole: signatures, keys and shares too. Error: the worst of all values against float64.
"""

import argparse
import json
import os
import platform
import statistics
import time
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.privacy.ckks import BITS, Encryptor, Hidden, KeyHolder, Receiver, Summand, SumPlan, sign_summand
from orchestrator.privacy.encrypted_score import Client, Server
from orchestrator.privacy.ring import from_ring
from orchestrator.privacy.secure_sum import Aggregator, Party, Ring, Session

STEP = 2.0**-23
BOUND = 8.0
RING_BITS = BITS
SIGNATURE_BYTES = 64

Figures = Dict[str, float]


class Clock:
    """Seconds of CPU spent, by who spent them."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    def of(self, who: str, step: Callable[..., Any], *arguments: Any) -> Any:
        start = time.process_time()
        result = step(*arguments)
        self.seconds[who] = self.seconds.get(who, 0.0) + time.process_time() - start
        return result

    def slowest(self, names: List[str]) -> float:
        return max(self.seconds[name] for name in names)


class Ward:
    """The parties of one sum: names, keys and vectors."""

    def __init__(self, parties: int, values: int) -> None:
        rng = np.random.default_rng(parties)
        self.names = [f"party-{i:03}" for i in range(parties)]
        self.keys = {name: Ed25519PrivateKey.generate() for name in self.names}
        self.vectors = {name: np.clip(rng.normal(size=values), -BOUND, BOUND) for name in self.names}
        self.right = np.sum([self.vectors[name] for name in self.names], axis=0)

    def verify(self, party: str, message: bytes, signature: bytes) -> bool:
        try:
            self.keys[party].public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


def plain(ward: Ward) -> Tuple[Figures, np.ndarray]:
    clock = Clock()
    sent = {name: clock.of(name, lambda v: v.astype("<f4").tobytes(), ward.vectors[name]) for name in ward.names}
    total = np.zeros(len(ward.right))

    def add(data: bytes) -> None:
        np.add(total, np.frombuffer(data, "<f4"), out=total)

    for name in ward.names:
        clock.of("server", add, sent[name])
    return _figures(clock, ward, len(sent[ward.names[0]])), total


def masked(ward: Ward) -> Tuple[Figures, np.ndarray]:
    clock = Clock()
    session, ring = Session(os.urandom(16), len(ward.names)), Ring(RING_BITS, len(ward.right))
    sides = {name: Party(session, name, ward.keys[name].sign, ward.verify) for name in ward.names}
    adverts = [clock.of(name, sides[name].advertise) for name in ward.names]
    aggregator = clock.of("server", Aggregator, session, adverts, ring)
    sent = dict.fromkeys(ward.names, 2 * 32 + SIGNATURE_BYTES)
    for name in ward.names:
        shares = clock.of(name, sides[name].share, adverts)
        sent[name] += sum(map(len, shares.values()))
        clock.of("server", aggregator.take_shares, name, shares)
    for name in ward.names:
        integers = clock.of(name, lambda v: np.rint(v / STEP).astype(np.int64), ward.vectors[name])
        message = clock.of(name, sides[name].mask, integers, aggregator.shares_for(name), RING_BITS)
        sent[name] += len(message)
        clock.of("server", aggregator.take_masked, name, message)
    signatures = {name: clock.of(name, sides[name].confirm, aggregator.survivors) for name in ward.names}
    answers = {name: clock.of(name, sides[name].unmask, signatures) for name in ward.names}
    for name in ward.names:
        sent[name] += SIGNATURE_BYTES + sum(len(kind) + len(share) for kind, share in answers[name].values())
    total = clock.of("server", aggregator.open, answers)
    return _figures(clock, ward, max(sent.values())), from_ring(total, RING_BITS) * STEP


def encrypted(ward: Ward) -> Tuple[Figures, np.ndarray]:
    clock = Clock()
    holder = clock.of("key holder", KeyHolder, SumPlan(len(ward.right), len(ward.names)))
    public = holder.public_context()
    session = os.urandom(16)
    sent: Dict[str, Hidden] = {}
    summands: List[Summand] = []
    for name in ward.names:
        side = clock.of(name, Encryptor, public)
        integers = clock.of(name, lambda v: np.rint(v / STEP).astype(np.int64), ward.vectors[name])
        sent[name] = clock.of(name, side.hide, integers, name, session)
        summands.append(clock.of(name, sign_summand, name, sent[name], session, ward.keys[name].sign))
    receiver = clock.of("server", Receiver, public)
    for summand in summands:
        one, digests = sent[summand.party], (summand.digest, summand.masked_digest)
        clock.of("server", receiver.check, one.masked, one.ciphertext, digests)
    ciphertexts = [one.ciphertext for one in sent.values()]
    pads = clock.of("key holder", holder.sum_pads, ciphertexts, session, summands, ward.verify)
    total = clock.of("server", receiver.open, [one.masked for one in sent.values()], pads)
    signed = sum(len(part) for part in summands[0][1:])
    first = sent[ward.names[0]]
    return _figures(clock, ward, len(first.ciphertext) + len(first.masked) + signed), total * STEP


def _figures(clock: Clock, ward: Ward, sent: int) -> Figures:
    return {
        "bytes up": sent,
        "x of float32": sent / (4 * len(ward.right)),
        "party s": clock.slowest(ward.names),
        "server s": clock.seconds["server"],
        "key holder s": clock.seconds.get("key holder", 0.0),
    }


WAYS: Dict[str, Callable[[Ward], Tuple[Figures, np.ndarray]]] = {
    "plain float32": plain,
    "secure aggregation": masked,
    "CKKS": encrypted,
}


def sums(parties: int, values: int, repeats: int) -> List[Dict[str, Any]]:
    ward = Ward(parties, values)
    rows = []
    for name, way in WAYS.items():
        runs = [way(ward) for _ in range(repeats)]
        error = max(float(np.abs(total - ward.right).max()) for _, total in runs)
        median = {key: statistics.median(figures[key] for figures, _ in runs) for key in runs[0][0]}
        rows.append({"way": name, "parties": parties, "values": values, **median, "largest error": error})
    return rows


def scores(records: int, features: int, classes: int, repeats: int) -> Dict[str, Any]:
    rng = np.random.default_rng(records)
    x, kernel, bias = (
        rng.normal(size=(records, features)),
        rng.normal(size=(features, classes)),
        rng.normal(size=classes),
    )
    spent: Dict[str, List[float]] = {}
    error = 0.0
    for _ in range(repeats):
        clock = Clock()
        client = clock.of("keys s", Client.make)  # they open one answer
        server = Server(client.public_context())
        request = clock.of("encrypt s", client.encrypt, x, classes)
        answer = clock.of("score s", server.score, request, kernel, bias)
        logits = clock.of("decrypt s", client.decrypt, answer)
        error = max(error, float(np.abs(logits - (x @ kernel + bias)).max()))
        for name, seconds in clock.seconds.items():
            spent.setdefault(name, []).append(seconds)
    return {
        "records": records,
        "features": features,
        "classes": classes,
        "bytes up": len(request),
        "bytes down": len(answer),
        **{name: statistics.median(times) for name, times in spent.items()},
        "largest error": error,
    }


def machine() -> str:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    import tenseal

    return f"{os.cpu_count()} shared cores of an {model}, Python {platform.python_version()}, TenSEAL {tenseal.__version__}"


def markdown(rows: List[Dict[str, Any]]) -> str:
    def cell(name: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if name.endswith(" s"):
            return f"{value:.4f}" if value else "-"
        return (
            f"{value:.1e}" if name.endswith("error") else f"{value:,.2f}" if name.startswith("x ") else f"{value:,.0f}"
        )

    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(cell(name, value) for name, value in row.items()) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parties", type=int, nargs="+", default=[4, 10])
    parser.add_argument("--values", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    added = [row for parties in given.parties for row in sums(parties, given.values, given.repeats)]
    scored = [scores(*shape, given.repeats) for shape in ((1, 13, 2), (1, 30, 2), (1000, 30, 2), (1, 128, 5))]
    if given.json:
        print(json.dumps({"machine": machine(), "sums": added, "scores": scored}))
        return
    print(f"{machine()}\n\n## Sums\n\n{markdown(added)}\n\n## Linear scores of encrypted records\n\n{markdown(scored)}")


if __name__ == "__main__":
    main()
