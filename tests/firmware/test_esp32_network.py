"""The network of an ESP32 (firmware/hal/esp32/with_network) as it compiles and behaves against a stand-in of ESP-IDF."""

import subprocess

import pytest

from orchestrator.boards.host_engine import SANITIZE, build, firmware_dir


@pytest.mark.parametrize("console", ["uart", "usb"])
def test_network(console: str) -> None:
    program = str(build(f"esp32-network-{console}", (*SANITIZE, f"-I{firmware_dir()}/test/esp_idf")))

    def run(*case: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([program, *case], capture_output=True, text=True, timeout=60, check=False)

    cases = run().stdout.split()
    assert len(cases) > 10
    failed = {case: done.stdout + done.stderr for case in cases for done in [run(case)] if done.returncode != 0}
    assert not failed
