"""The microphone of an ESP32 (firmware/hal/esp32/with_mic) against a stand-in of ESP-IDF's I2S driver."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from orchestrator.boards.host_engine import FLAGS, SANITIZE, build, firmware_dir

STAND_IN = f"-I{firmware_dir()}/test/esp_idf"
DRIVER = "hal/esp32/with_mic/mic.cpp"


@pytest.mark.parametrize("settings", [(), ("-DEDGEWARD_MIC_SHIFT=14", "-DEDGEWARD_MIC_PINS=7,10,3")])
def test_microphone(settings: Tuple[str, ...]) -> None:
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


ESP_IDF = """
macro(idf_component_register)
  message("${ARGN}")
endmacro()
macro(target_compile_definitions)
  message("${ARGN}")
endmacro()
include(CMakeLists.txt)
"""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake not installed (Debian: apt-get install cmake)")
@pytest.mark.parametrize(
    ("given", "folder", "definitions"),
    [
        ({}, "without_mic", []),
        ({"EDGEWARD_MIC": "yes"}, "without_mic", []),
        ({"EDGEWARD_MIC": "1"}, "with_mic", []),
        (
            {"EDGEWARD_MIC": "1", "EDGEWARD_MIC_PINS": "7,10,3", "EDGEWARD_MIC_SHIFT": "14"},
            "with_mic",
            ["EDGEWARD_MIC_PINS=7,10,3", "EDGEWARD_MIC_SHIFT=14"],
        ),
    ],
)
def test_a_build_has_a_microphone_where_it_is_asked_for(
    tmp_path: Path, given: Dict[str, str], folder: str, definitions: List[str]
) -> None:
    (tmp_path / "lists.cmake").write_text(ESP_IDF)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EDGEWARD_")}
    done = subprocess.run(
        ["cmake", "-P", str(tmp_path / "lists.cmake")],
        cwd=firmware_dir(), env={**environment, **given}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    words = done.stderr.replace("\n", ";").split(";")
    assert [word for word in words if "_mic/" in word] == [str(firmware_dir() / "hal/esp32" / folder / "mic.cpp")]
    assert [word for word in words if word.startswith("EDGEWARD_MIC")] == definitions
