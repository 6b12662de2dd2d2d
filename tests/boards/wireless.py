"""A federation's broker with identities, and virtual boards that are on it, for tests."""

import secrets
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_export.model_bin import KnownAnswers, pack_model_bin, parse_model_bin
from model_export.plan import compile_plan
from model_export.signing import raw_public, sign_model_bin
from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.fleet_link import FleetLink
from orchestrator.boards.network_board import NetworkBoard
from orchestrator.boards.orders import Numbers
from orchestrator.boards.settings import NetworkSettings
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import OwnBroker
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.wire.link import BrokerAddress

FEDERATION = "icu"
OPERATOR = "fleet:operator"


class Ward:
    """An authority, its mosquitto, a fleet's owner with a key, and boards. `with` ends all of it.

    `boards`: who gets a certificate, besides the operator and `others`; before the broker starts, which reads their rights.
    """

    def __init__(self, folder: Path, boards: Sequence[str], others: Sequence[str] = ()) -> None:
        self.key, self.program_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.numbers = Numbers()
        self.fleet = Fleet(folder / "fleet", FEDERATION)
        self.boards: Dict[str, VirtualBoard] = {}
        self.authority = Authority.create(folder / "identity", FEDERATION, ["127.0.0.1"])
        self.identities: Dict[str, NodeIdentity] = {}
        self._folder = folder
        for name in (*(f"board:{board}" for board in boards), OPERATOR, *others):
            self.enroll(name)
        self._stack = ExitStack()

    def enroll(self, name: str) -> None:
        place = self._folder / name.replace(":", "-")
        answer = self.authority.sign(make_node_request(place, name, FEDERATION), name)
        self.identities[name] = install(place, answer)

    def __enter__(self) -> "Ward":
        self._stack.callback(self.authority.close)
        self.broker = self._stack.enter_context(OwnBroker("mosquitto", authority=self.authority))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def settings(self, name: str, certificate_of: str = "", **more: Any) -> NetworkSettings:
        """Of board `name`; with `certificate_of`, the certificate of another."""
        identity = self.identities[certificate_of or f"board:{name}"]
        ca, certificate, key = ((identity.folder / part).read_bytes() for part in ("ca.crt", "node.crt", "node.key"))
        self.fleet.secrets[name] = secrets.token_bytes(32)
        return NetworkSettings(
            name=name,
            federation=FEDERATION,
            host="127.0.0.1",
            port=self.broker.address.port,
            secret=self.fleet.secrets[name],
            ca=ca,
            certificate=certificate,
            key=key,
            **more,
        )

    def board(self, name: str, model_bin: Optional[bytes], **more: Any) -> VirtualBoard:
        """One that has its place in its flash, and trusts the owner's key."""
        board = VirtualBoard(
            model_bin,
            settings=self.settings(name, **more),
            keys=[self.public],
            program_key=raw_public(self.program_key.public_key()),
        )
        self.boards[name] = self._stack.enter_context(board)
        return board

    def address(self, name: str = OPERATOR) -> BrokerAddress:
        """The broker, as it is reached with the certificate of `name`."""
        return self.identities[name].secure(BrokerAddress("127.0.0.1", self.broker.address.port))

    def link(self) -> FleetLink:
        return FleetLink(self.fleet, self.address())

    def order_to(self, link: FleetLink, name: str, timeout_s: float = 60.0) -> NetworkBoard:
        return NetworkBoard(link, name, self.key, self.numbers, timeout_s=timeout_s)


def packed(tflite: bytes, name: str, answers: KnownAnswers, key: Ed25519PrivateKey) -> bytes:
    """A signed model.bin."""
    plan = compile_plan(tflite)
    whole = pack_model_bin(
        name=name,
        tflite=tflite,
        plan=plan.blob,
        arena_tflm_bytes=30000,
        arena_direct_bytes=plan.arena_bytes,
        known_answers=answers,
    )
    return sign_model_bin(whole, key)


def digest_of(model_bin: bytes) -> str:
    return parse_model_bin(model_bin).digest


def until(true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Waits until something is so; AssertionError when it has not been for `timeout_s`, far longer than it takes."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
