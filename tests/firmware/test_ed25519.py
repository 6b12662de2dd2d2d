"""The firmware's Ed25519 verifier against RFC 8032, the `cryptography` package, and the edges of the encoding."""

import random
import subprocess
from typing import List, Sequence, Tuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_export.signing import raw_public
from orchestrator.boards.host_engine import SANITIZE, build

Case = Tuple[bytes, bytes, bytes]
ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19

# RFC 8032, section 7.1: secret key, message, signature (tests 1, 2, 3 and SHA(abc)).
RFC_8032 = [
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
]  # fmt: skip


def check(cases: Sequence[Case], flags: Sequence[str] = ()) -> List[str]:
    lines = "".join(f"{key.hex()} {sig.hex()} {message.hex() or '-'}\n" for key, sig, message in cases)
    program = build("verify-stdio", flags)
    done = subprocess.run([str(program)], input=lines, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = done.stdout.split()
    assert len(answers) == len(cases)
    return answers


def signed(rng: random.Random, message_bytes: int) -> Case:
    key = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
    message = rng.randbytes(message_bytes)
    return raw_public(key.public_key()), key.sign(message), message


def test_vectors_of_rfc_8032() -> None:
    cases = []
    for secret, message, signature in RFC_8032:
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        assert key.sign(bytes.fromhex(message)).hex() == signature
        cases.append((raw_public(key.public_key()), bytes.fromhex(signature), bytes.fromhex(message)))
    assert check(cases, SANITIZE) == ["11"] * len(cases)


@pytest.mark.parametrize(("flags", "count"), [((), 2000), (SANITIZE, 300)])
def test_what_cryptography_signs_is_accepted_and_every_change_is_not(flags: Sequence[str], count: int) -> None:
    rng = random.Random(5)
    good = [signed(rng, rng.choice((0, 1, 47, 48, 63, 64, 80, 111, 112, 127, 128, 300))) for _ in range(count)]
    assert {answer[0] for answer in check(good, flags)} == {"1"}
    changed = []
    for case in good:
        parts = [bytearray(part) for part in case]
        part = rng.choice([p for p in parts if p])
        part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
        changed.append((bytes(parts[0]), bytes(parts[1]), bytes(parts[2])))
    assert {answer[0] for answer in check(changed, flags)} == {"0"}


def test_other_encodings_of_a_good_signature_are_refused() -> None:
    key, signature, message = signed(random.Random(6), 80)
    s = int.from_bytes(signature[32:], "little")
    again = [signature[:32] + (s + k * ORDER).to_bytes(32, "little") for k in range(1, 8) if s + k * ORDER < 2**256]
    assert len(again) >= 7
    assert {answer[0] for answer in check([(key, other, message) for other in again])} == {"0"}


def test_points_of_small_order_and_other_encodings_of_points() -> None:
    small = [y.to_bytes(32, "little") for y in (0, 1, PRIME - 1)]
    small += [bytes.fromhex(x) for x in ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
                                         "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")]  # fmt: skip
    # With A of order 1 and S = 0, R = identity is a valid equation: RFC 8032 accepts it, so no board takes such a key.
    identity = (1).to_bytes(32, "little")
    forged = identity + bytes(32)
    answers = check([(key, forged, b"any message") for key in small])
    assert {answer[1] for answer in answers} == {"0"}
    assert answers[1] == "10"
    beyond = [(PRIME + y).to_bytes(32, "little") for y in range(19)] + [(2**255 + 1).to_bytes(32, "little")]
    assert set(check([(key, forged, b"any message") for key in beyond])) == {"00"}
    # An R that is the identity in another encoding does not equal the computed one.
    other = (PRIME + 1).to_bytes(32, "little") + bytes(32)
    assert check([(identity, other, b"any message")])[0][0] == "0"
