"""The microphone of an ESP32 (firmware/hal/esp32/with_mic) against a stand-in of ESP-IDF's I2S driver."""

import subprocess

import pytest

from orchestrator.boards.host_engine import FLAGS, SANITIZE, build, firmware_dir

STAND_IN = f"-I{firmware_dir()}/test/esp_idf"
DRIVER = "hal/esp32/with_mic/mic.cpp"


@pytest.mark.parametrize("settings", [(), ("-DEDGEWARD_MIC_SHIFT=14", "-DEDGEWARD_MIC_PINS=7,10,3")])
def test_microphone(settings: "tuple[str, ...]") -> None:
    program = str(build("esp32-mic", (*SANITIZE, STAND_IN, *settings)))

    def run(*case: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([program, *case], capture_output=True, text=True, timeout=60, check=False)

    cases = run().stdout.split()
    assert len(cases) > 10
    failed = {case: done.stdout + done.stderr for case in cases for done in [run(case)] if done.returncode != 0}
    assert not failed


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("PINS=1,2,3", ""),
        ("PINS=1,2", "EDGEWARD_MIC_PINS are three pins"),
        ("PINS=1,2,2", "EDGEWARD_MIC_PINS are three pins"),
        ("PINS=1,2,49", "EDGEWARD_MIC_PINS are three pins"),
        ("SHIFT=8", ""),
        ("SHIFT=7", "24 bits of a slot"),
        ("SHIFT=17", "24 bits of a slot"),
    ],
)
def test_settings_that_cannot_be_do_not_compile(setting: str, says: str) -> None:
    command = ["g++", *FLAGS, "-fsyntax-only", f"-I{firmware_dir()}", STAND_IN, f"-DEDGEWARD_MIC_{setting}"]
    done = subprocess.run(
        [*command, str(firmware_dir() / DRIVER)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode == 0) == (says == ""), done.stderr
    assert says in done.stderr


def test_the_usual_build_has_nothing_of_it() -> None:
    without = (firmware_dir() / "hal/esp32/without_mic/mic.cpp").read_text("utf-8")
    assert "i2s" not in without
    assert "kMic = nullptr" in without
    lists = (firmware_dir() / "CMakeLists.txt").read_text("utf-8")
    assert "set(mic without_mic)" in lists
    assert "hal/esp32/${mic}/*.cpp" in lists
