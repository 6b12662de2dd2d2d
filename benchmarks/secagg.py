"""What a secure sum costs beside a plain one: in one process without a network, and as rounds over MQTT.

python benchmarks/secagg.py [--parties 100] [--values 100000] [--dropouts 30] [--degree 20] [--bits 24] [--rounds 20] [--json]
                            [--flower PYTHON]

`--rounds 20`: also so many rounds of four nodes over mosquitto, plain (int8) and masked (16 bits), as processes on this machine,
without training (benchmarks/rounds.py); 0 leaves that out. Both are run five times in turn, since machines are noisy.
`--flower`: and plain and SecAgg+ rounds of Flower, three times in turn, with the interpreter of an environment that has it
(flower_peer.py).
Server: unpacking, adding and unmasking, against unpacking and adding the same vectors unmasked. Party: its four steps.
Where there are more parties than neighbours there is a fifth, for nonces. Signatures are Ed25519. Bytes are what one party sends.
"""

import argparse
import json
import os
import platform
import statistics
import time
from typing import Any, Dict, List

import flower_peer
import numpy as np
import rounds
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.privacy.mask_graph import complete_up_to
from orchestrator.privacy.ring import from_ring, pack, to_ring, unpack
from orchestrator.privacy.secure_sum import Aggregator, Party, Ring, Session

NODES, REPEATS, FLOWER_REPEATS, FLOWER_ROUNDS = 4, 5, 3, 4


def measure(parties: int, values: int, dropouts: int, degree: int, bits: int) -> Dict[str, Any]:
    session, ring = Session(os.urandom(16), degree), Ring(bits, values)
    names = [f"party-{i:03}" for i in range(parties)]
    keys = {n: Ed25519PrivateKey.generate() for n in names}
    public = {n: keys[n].public_key() for n in names}

    def verify(party: str, message: bytes, signature: bytes) -> bool:
        try:
            public[party].verify(signature, message)
        except InvalidSignature:
            return False
        return True

    rng = np.random.default_rng(0)
    vectors = {n: rng.integers(-500, 500, values) for n in names}
    spent: Dict[str, float] = dict.fromkeys(names, 0.0)

    def timed(name: str, step: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = step(*arguments)
        spent[name] += time.perf_counter() - start
        return result

    sides = {n: Party(session, n, keys[n].sign, verify) for n in names}
    adverts = [timed(n, sides[n].advertise) for n in names]
    nonces: Dict[str, bytes] = {}
    if parties > complete_up_to(degree):
        nonces = {n: timed(n, sides[n].reveal, adverts) for n in names}
    server = 0.0
    start = time.perf_counter()
    aggregator = Aggregator(session, adverts, ring, nonces=nonces)
    server += time.perf_counter() - start
    for name in names:
        aggregator.take_shares(name, timed(name, sides[name].share, adverts, nonces))
    sent: List[int] = []
    survivors = names[dropouts:]
    for name in survivors:
        shares = aggregator.shares_for(name)
        masked = timed(name, sides[name].mask, vectors[name], shares, bits)
        sent.append(
            len(masked) + sum(map(len, shares.values())) + 96 + 64 + 64 + 33 * len(shares) + len(nonces.get(name, b""))
        )
        start = time.perf_counter()
        aggregator.take_masked(name, masked)
        server += time.perf_counter() - start
    signatures = {n: timed(n, sides[n].confirm, aggregator.survivors) for n in survivors}
    answers = {n: timed(n, sides[n].unmask, signatures) for n in survivors}
    start = time.perf_counter()
    total = from_ring(aggregator.open(answers), bits)
    server += time.perf_counter() - start
    if not np.array_equal(total, sum(vectors[n] for n in survivors)):
        raise SystemExit("the secure sum is wrong")
    return {
        "parties": parties,
        "dropouts": dropouts,
        "neighbours": degree,
        "values": values,
        "bits": bits,
        "server seconds": server,
        "plain server seconds": plain_seconds([vectors[n] for n in survivors], bits, values),
        "slowest party seconds": max(spent[n] for n in survivors),
        "median party seconds": statistics.median(spent[n] for n in survivors),
        "bytes up per party": statistics.mean(sent),
        "bytes up, float32": 4 * values,
    }


def plain_seconds(vectors: List[np.ndarray], bits: int, values: int) -> float:
    packed = [pack(to_ring(v, bits), bits) for v in vectors]
    start = time.perf_counter()
    total = np.zeros(values, np.uint32)
    for data in packed:
        total += unpack(data, bits, values)
    return time.perf_counter() - start


def over_mqtt(values: int, count: int, flower: str) -> Dict[str, Any]:
    """Masked rounds beside plain ones, ours and Flower's."""
    kinds: Dict[str, List[Dict[str, Any]]] = {"plain": [], "masked": []}
    for _ in range(REPEATS):
        for kind, found in kinds.items():
            found.append(rounds.measure(NODES, values, count, "mosquitto", "int8", kind, "float32"))
    figures = _beside("", kinds["plain"], kinds["masked"], 4 * values)
    if flower:
        theirs: List[List[Dict[str, Any]]] = [[], []]
        for _ in range(FLOWER_REPEATS):
            for secure, found in enumerate(theirs):
                found.append(flower_peer.measure(flower, NODES, values, FLOWER_ROUNDS, bool(secure)))
        figures.update(_beside("Flower, ", theirs[0], theirs[1], 4 * values))
        for name in ("seconds, plain", "seconds, masked"):
            figures[f"Edgeward / Flower, {name}"] = figures[f"round {name}"] / figures[f"Flower, round {name}"]
    return figures


def _beside(name: str, plain: List[Dict[str, Any]], masked: List[Dict[str, Any]], float32: int) -> Dict[str, Any]:
    seconds = [statistics.median(f["seconds_per_round"] for f in kind) for kind in (plain, masked)]
    up, down = ([kind[0][f"bytes_{way}_per_node_round"] for kind in (plain, masked)] for way in ("up", "down"))
    ratios = [m["seconds_per_round"] / p["seconds_per_round"] for p, m in zip(plain, masked)]
    return {
        f"{name}round seconds, plain": seconds[0],
        f"{name}round seconds, masked": seconds[1],
        f"{name}masked / plain, seconds": seconds[1] / seconds[0],
        **({f"{name}least and most of the repeats": [min(ratios), max(ratios)]} if len(ratios) > 1 else {}),
        f"{name}masked / plain, bytes up and down": (up[1] + down[1]) / (up[0] + down[0]),
        f"{name}masked / plain, bytes up": up[1] / up[0],
        f"{name}masked / float32, bytes up": up[1] / float32,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("parties", 100),
        ("values", 100_000),
        ("dropouts", 30),
        ("degree", 20),
        ("bits", 24),
        ("rounds", 20),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--flower", metavar="PYTHON", default="")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    figures = measure(given.parties, given.values, given.dropouts, given.degree, given.bits)
    if given.rounds:
        figures.update(over_mqtt(given.values, given.rounds, given.flower))
    if given.json:
        print(json.dumps(figures))
        return
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n\n| | |\n|---|---|")
    for name, value in figures.items():
        shown = [
            f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" for v in (value if isinstance(value, list) else [value])
        ]
        print(f"| {name} | {' to '.join(shown)} |")


if __name__ == "__main__":
    main()
