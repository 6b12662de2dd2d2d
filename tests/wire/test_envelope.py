import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import WireError
from orchestrator.wire.envelope import EVERYONE, Opener, Sealer

KEY = Ed25519PrivateKey.generate()


def test_what_was_sealed_opens_for_its_addressee_and_for_all() -> None:
    for addressee in ("a", EVERYONE):
        opened = Opener(KEY.public_key(), "icu", "a").open(Sealer(KEY, "icu").seal(b"content", addressee, 7))
        assert (opened.content, opened.serial) == (b"content", 7)


def test_sealing_again_gives_the_same_bytes_so_that_a_resend_is_the_same_transfer() -> None:
    assert Sealer(KEY, "icu").seal(b"x", "a", 1) == Sealer(KEY, "icu").seal(b"x", "a", 1)


def test_every_changed_bit_is_refused() -> None:
    message = Sealer(KEY, "icu").seal(b"content", "a", 7)
    opener = Opener(KEY.public_key(), "icu", "a")
    for bit in range(8 * len(message)):
        changed = bytearray(message)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            opener.open(bytes(changed))
    for length in range(len(message)):
        with pytest.raises(WireError):
            opener.open(message[:length])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"EWB\x01 plain body", "unsigned message"),
        (Sealer(Ed25519PrivateKey.generate(), "icu").seal(b"x", "a", 1), "this node trusts"),
        (Sealer(KEY, "another").seal(b"x", "a", 1), "signed for federation 'another'"),
        (Sealer(KEY, "icu").seal(b"x", "b", 1), "signed for 'b'"),
        (b"EWS\x02" + bytes(200), "another version"),
    ],
    ids=["unsigned", "other key", "other federation", "other node", "other version"],
)
def test_each_refusal_says_why(message: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        Opener(KEY.public_key(), "icu", "a").open(message)
