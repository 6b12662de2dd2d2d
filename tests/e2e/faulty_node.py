"""A node with predictable updates whose link damages, repeats and loses messages, and whose clock may be wrong.

python faulty_node.py BROKER NAME DATA STATE DELAY_S SEED RATE CLOCK_S ACK_LOG

`RATE` is the share of messages, in each direction, that is damaged, and again of those repeated and of those lost. Damage
is one changed byte of the MQTT payload, between the agent and paho: MQTT itself stays valid, so only our own checks can
find it. `CLOCK_S` is added to the process's time.time(). Faults and
acknowledged updates (with their ids) are noted in ACK_LOG.
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

from fixed_node import Fixed

from orchestrator.node.agent import NodeAgent
from orchestrator.wire.body import decode_body
from orchestrator.wire.frames import Ack
from orchestrator.wire.link import BrokerAddress, Link, Message
from orchestrator.wire.transfer import transfer_id


class FaultyLink(Link):
    """Faults of both directions; presence (retained state, not a transfer) is spared on its way out."""

    dice = random.Random()
    rate = 0.0
    log = ""

    def _note(self, kind: str) -> None:
        with open(self.log, "a") as file:
            file.write(json.dumps({"fault": kind}) + "\n")

    def _faulty(self, payload: bytes) -> List[bytes]:
        roll = self.dice.random()
        if roll < self.rate and payload:
            self._note("damaged")
            changed = bytearray(payload)
            changed[self.dice.randrange(len(changed))] ^= 1 << self.dice.randrange(8)
            return [bytes(changed)]
        if roll < 2 * self.rate:
            self._note("repeated")
            return [payload, payload]
        if roll < 3 * self.rate:
            self._note("lost")
            return []
        return [payload]

    def send_from(self, source: Any) -> None:
        waiting: List[Any] = []

        def faulty(now: float) -> Any:
            while not waiting:
                outgoing = source(now)
                if outgoing is None:
                    return None
                waiting.extend((outgoing[0], payload) for payload in self._faulty(outgoing[1]))
            return waiting.pop(0)

        super().send_from(faulty)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        for one in [payload] if retain else self._faulty(payload):
            super().publish(topic, one, retain)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        for payload in self._faulty(message.payload):
            self.events.put(Message(message.topic, payload))


class FaultyAddress(BrokerAddress):
    """Of a broker to which links are faulty."""

    def link(
        self, client_id: str, subscriptions: Iterable[str], will: Optional[Tuple[str, bytes]] = None
    ) -> FaultyLink:
        return FaultyLink(self, client_id, subscriptions, will)


def main() -> None:
    broker, name, data, state, delay, seed, rate, clock, ack_log = sys.argv[1:]
    FaultyLink.dice, FaultyLink.rate, FaultyLink.log = random.Random(seed), float(rate), ack_log
    Fixed.delay_s = float(delay)
    real_time = time.time
    time.time = lambda: real_time() + float(clock)
    agent = NodeAgent(FaultyAddress.parse(broker), "test", name, Path(data), Path(state), Fixed, once=True)
    acknowledged, send = agent.outbox.acknowledged, agent.outbox.send
    rounds: Dict[bytes, int] = {}

    def remember(body: bytes, topic: str, receivers: Dict[str, str], now: float) -> None:
        rounds[transfer_id(body)] = decode_body(body, 1 << 24)[0]["round"]
        send(body, topic, receivers, now)

    def note(receiver: str, frame: Ack) -> bool:
        first = acknowledged(receiver, frame)
        if first:
            with open(ack_log, "a") as file:
                file.write(json.dumps({"node": name, "id": frame.id.hex(), "round": rounds[frame.id]}) + "\n")
        return first

    vars(agent.outbox).update(acknowledged=note, send=remember)
    agent.run()


if __name__ == "__main__":
    main()
