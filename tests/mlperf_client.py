"""The MLPerf Tiny runner's end of a serial port: raw bytes, `%` and `m-ready`."""

from typing import List

from orchestrator.boards.conversation import open_port


class Runner:
    def __init__(self, port: str) -> None:
        self.device = open_port(port)
        self.device.timeout = 10

    def ask(self, command: str) -> List[str]:
        self.device.write(command.encode() + b"%")
        answer = self.device.read_until(b"m-ready\r\n").decode("ascii")
        assert answer.endswith("m-ready\r\n")
        lines = answer.split("\r\n")
        assert "\n" not in "".join(lines)
        return lines[:-2]

    def load(self, sample: bytes) -> None:
        assert self.ask(f"db load {len(sample)}") == [f"m-[Expecting {len(sample)} bytes]"]
        for at in range(0, len(sample), 31):
            answer = self.ask("db " + sample[at : at + 31].hex())
            assert answer == (["m-load-done"] if at + 31 >= len(sample) else [])
