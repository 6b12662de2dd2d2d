"""One end of a large transfer, in a process of its own so that its memory can be measured.

python large_peer.py BROKER receive|send NAME BYTES     prints: digest, MiB before, peak MiB
"""

import queue
import sys
import time
import zlib

import numpy as np

from orchestrator.wire.frames import Ack, Chunk, Want, decode_frame, encode_frame
from orchestrator.wire.link import BrokerAddress, Connected, Link, Message
from orchestrator.wire.process import peak_memory_mib
from orchestrator.wire.transfer import Inbox, Outbox, transfer_id


def main() -> None:
    broker, role, name, size = sys.argv[1:]
    inbox, outbox = Inbox(512 << 20), Outbox()
    link = Link(BrokerAddress.parse(broker), name, ["all", f"down/{name}"])
    link.send_from(outbox.next)
    link.open(20)
    time.sleep(0.5)  # the SUBACK
    base = peak_memory_mib()
    if role == "send":
        body = np.random.default_rng(zlib.crc32(name.encode())).bytes(int(size))
        digest = transfer_id(body).hex()
        outbox.send(body, f"up/{name}", {"gateway": f"up/{name}"}, time.monotonic())
    else:
        print("ready", flush=True)
    while role == "receive" or outbox.pending():
        link.pump()
        outbox.due(time.monotonic())
        try:
            event = link.events.get(timeout=0.5)
        except queue.Empty:
            continue
        if isinstance(event, Connected):
            outbox.retry_now(time.monotonic())
        if not isinstance(event, Message):
            continue
        frame = decode_frame(event.payload)
        if isinstance(frame, Ack):
            outbox.acknowledged("gateway", frame)
        elif isinstance(frame, Want):
            outbox.wanted("gateway", frame, time.monotonic())
        elif isinstance(frame, Chunk):
            received, answer = inbox.feed("gateway", frame)
            if received is not None:
                print(transfer_id(received).hex(), base, peak_memory_mib(), flush=True)
                answer = inbox.finish("gateway", frame.id)
            if answer is not None:
                link.publish(f"up/{name}", encode_frame(answer))
    print(digest, base, peak_memory_mib(), flush=True)
    link.close()


if __name__ == "__main__":
    main()
