"""The keys of one party in one secure sum, and what they give with each neighbour: a secret of masks, a channel for shares."""

import os
from typing import Dict, Tuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.errors import PrivacyError
from orchestrator.privacy.secure_session import Advert, Session, counted
from orchestrator.privacy.shamir import SHARE_BYTES


class PairKeys:
    """Fresh X25519 keys. Only the secret that masks come from is ever given away, in shares."""

    def __init__(self, party: str) -> None:
        self._party = party
        self._channel, self._mask = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self._secrets: Dict[
            str, Tuple[bytes, bytes]
        ] = {}  # neighbour -> secrets shared with it: of the channel, of masks

    @property
    def public(self) -> Tuple[bytes, bytes]:
        """(of the channel, of masks)"""
        channel, mask = (key.public_key().public_bytes_raw() for key in (self._channel, self._mask))
        return channel, mask

    @property
    def mask_secret(self) -> bytes:
        """The private key of all pairwise masks, to be split."""
        return self._mask.private_bytes_raw()

    def agree(self, advert: Advert) -> None:
        """On secrets with a neighbour; PrivacyError where its keys give none."""
        pairs = ((self._channel, advert.channel_key), (self._mask, advert.mask_key))
        try:
            channel, mask = (key.exchange(X25519PublicKey.from_public_bytes(public)) for key, public in pairs)
        except ValueError as error:
            raise PrivacyError(f"with the keys of {advert.party} no secret can be agreed on") from error
        self._secrets[advert.party] = channel, mask

    def shared_with(self, neighbour: str) -> bytes:
        """The secret that the pairwise mask comes from."""
        return self._secrets[neighbour][1]

    def encrypt(self, shown: Session, receiver: str, shares: bytes) -> bytes:
        """`shown`: the session with the adverts and nonces this party was shown: who was shown others cannot read it."""
        nonce = os.urandom(12)
        return nonce + self._cipher(shown, receiver, self._party, receiver).encrypt(nonce, shares, None)

    def decrypt(self, shown: Session, sender: str, cipher: bytes) -> Tuple[bytes, bytes]:
        """(share of its own seed, of its pairwise key); PrivacyError where the sender did not encrypt two shares so."""
        try:
            plain = self._cipher(shown, sender, sender, self._party).decrypt(cipher[:12], cipher[12:], None)
        except (InvalidTag, ValueError) as error:
            raise PrivacyError(f"shares of {sender} were changed on the way") from error
        if len(plain) != 2 * SHARE_BYTES:
            raise PrivacyError(f"{sender} sent {len(plain)} bytes of shares, not {2 * SHARE_BYTES}")
        return bytes(plain[:SHARE_BYTES]), bytes(plain[SHARE_BYTES:])

    def _cipher(self, shown: Session, other: str, sender: str, receiver: str) -> AESGCM:
        secret = self._secrets[other][0]
        return AESGCM(shown.key(secret, b"channel/" + counted(sender.encode(), receiver.encode())))
