"""What must not reach a board is refused before a port is opened."""

import json
from pathlib import Path
from typing import Any, Callable

import pytest
from flash_files import esp_image, model_bin
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.boards.flash_images import ImageError, firmware_regions, log_region, model_region
from orchestrator.boards.partitions import LAYOUT, SLOTS, build_table


@pytest.fixture(name="build")
def _build(tmp_path: Path) -> Path:
    (tmp_path / "firmware.bin").write_bytes(esp_image("esp32c3", 4000))
    (tmp_path / "bootloader.bin").write_bytes(esp_image("esp32c3", 2000))
    (tmp_path / "partitions.bin").write_bytes(build_table())
    return tmp_path


@pytest.fixture(name="idf")
def _idf(tmp_path: Path) -> Path:
    """As `idf.py build` leaves it, with much else that is of no use here."""
    folder = tmp_path / "build"
    (folder / "bootloader").mkdir(parents=True)
    (folder / "partition_table").mkdir()
    (folder / "edgeward.bin").write_bytes(esp_image("esp32c3", 4000))
    (folder / "bootloader/bootloader.bin").write_bytes(esp_image("esp32c3", 2000))
    (folder / "partition_table/partition-table.bin").write_bytes(build_table())
    listed = {
        "flash_settings": {"flash_mode": "dio", "flash_size": "4MB", "flash_freq": "80m"},
        "flash_files": {"0x0": "bootloader/bootloader.bin", "0x10000": "edgeward.bin"},
        "bootloader": {"offset": "0x0", "file": "bootloader/bootloader.bin", "encrypted": "false"},
        "app": {"offset": "0x10000", "file": "edgeward.bin", "encrypted": "false"},
        "partition-table": {"offset": "0x8000", "file": "partition_table/partition-table.bin", "encrypted": "false"},
        "extra_esptool_args": {"after": "hard_reset", "chip": "esp32c3"},
    }
    (folder / "flasher_args.json").write_text(json.dumps(listed))
    return folder


def test_a_build_folder_of_idf_py(idf: Path, build: Path) -> None:
    assert firmware_regions(idf) == firmware_regions(build)
    (idf / "edgeward.bin").unlink()
    with pytest.raises(ImageError, match=r"edgeward\.bin: No such file"):
        firmware_regions(idf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda listed: listed.pop("app"), "names no file for app"),
        (lambda listed: listed["app"].update(file="../edgeward.bin"), "names no file for app"),
        (lambda listed: listed["app"].update(file="/etc/passwd"), "names no file for app"),
        (lambda listed: listed.update(bootloader=[]), "names no file for bootloader"),
        (
            lambda listed: listed["app"].update(offset="0x20000"),
            "puts app at 0x20000, Edgeward's layout has it at 0x10000",
        ),
        (lambda listed: listed["partition-table"].update(offset=None), "puts partition-table at"),
    ],
)
def test_what_idf_py_lists_is_checked(idf: Path, change: Callable[[Any], Any], message: str) -> None:
    listed = json.loads((idf / "flasher_args.json").read_text())
    change(listed)
    (idf / "flasher_args.json").write_text(json.dumps(listed))
    with pytest.raises(ImageError, match=message):
        firmware_regions(idf)
    (idf / "flasher_args.json").write_text("[")
    with pytest.raises(ImageError, match="is no JSON object"):
        firmware_regions(idf)


def test_model_from_bundle_folder_or_file(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(model_bin())
    from_folder, from_file = model_region(tmp_path), model_region(tmp_path / "model.bin", "b")
    assert from_folder.data == from_file.data == model_bin()
    assert (from_folder.address, from_file.address) == (SLOTS["a"].offset, SLOTS["b"].offset)
    assert from_folder.model is not None
    assert (from_folder.model.name, len(from_folder.model.digest)) == ("sample", 16)


def test_missing_model_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"holds no model\.bin, so it is no bundle"):
        model_region(tmp_path)


@settings(max_examples=60)
@given(st.integers(0, 8 * len(model_bin(500)) - 1))
def test_one_flipped_bit_in_a_model_is_refused(tmp_path_factory: pytest.TempPathFactory, bit: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "model.bin"
    damaged = bytearray(model_bin(500))
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    with pytest.raises(ImageError, match="nothing was flashed"):
        model_region(path)


@pytest.mark.parametrize("keep", [0, 100, 256, 5000])
def test_truncated_model_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(model_bin()[:keep])
    with pytest.raises(ImageError):
        model_region(path)


def test_model_larger_than_its_slot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(model_bin(SLOTS["a"].size))
    with pytest.raises(ImageError, match="do not fit slot b, which holds 487,424"):
        model_region(path, "b")
    path.write_bytes(model_bin(SLOTS["a"].size - 4096 - 256))
    assert model_region(path).end == log_region("a").address
    assert log_region("a").end == SLOTS["a"].end


def test_firmware_is_written_bootloader_last(build: Path) -> None:
    regions = firmware_regions(build)
    assert [(r.name, r.address, r.chip) for r in regions] == [
        ("app", 0x10000, "esp32c3"),
        ("partition table", 0x8000, "esp32c3"),
        ("choice of program", 0x2F0000, None),
        ("bootloader", 0x0, "esp32c3"),
    ]


def test_bootloader_of_the_first_esp32_starts_at_0x1000(build: Path) -> None:
    (build / "firmware.bin").write_bytes(esp_image("esp32", 4000))
    (build / "bootloader.bin").write_bytes(esp_image("esp32", 2000))
    assert firmware_regions(build)[-1].address == 0x1000


@settings(max_examples=60)
@given(st.data())
def test_one_flipped_bit_in_an_app_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("flip")
    image = esp_image("esp32", 600)
    bit = data.draw(st.integers(0, 8 * len(image) - 1))
    damaged = bytearray(image)
    damaged[bit // 8] ^= 1 << bit % 8
    (folder / "firmware.bin").write_bytes(damaged)
    (folder / "bootloader.bin").write_bytes(esp_image("esp32", 600))
    (folder / "partitions.bin").write_bytes(build_table())
    with pytest.raises(ImageError, match=r"firmware\.bin"):
        firmware_regions(folder)


def test_app_that_denies_its_sha256_is_refused(build: Path) -> None:
    image = bytearray((build / "firmware.bin").read_bytes())
    image[23] = 0
    (build / "firmware.bin").write_bytes(image)
    with pytest.raises(ImageError, match="goes on after the checksum"):
        firmware_regions(build)


@pytest.mark.parametrize("part", ["firmware.bin", "bootloader.bin", "partitions.bin"])
@pytest.mark.parametrize("keep", [0, 20, 100])
def test_truncated_firmware_is_refused(build: Path, part: str, keep: int) -> None:
    (build / part).write_bytes((build / part).read_bytes()[:keep])
    with pytest.raises(ImageError, match=part):
        firmware_regions(build)


def test_incomplete_and_mixed_builds_are_refused(build: Path) -> None:
    with pytest.raises(ImageError, match="pio run"):
        firmware_regions(build / "nowhere")
    (build / "bootloader.bin").write_bytes(esp_image("esp32", 2000))
    with pytest.raises(ImageError, match=r"firmware\.bin is for esp32c3, bootloader\.bin for esp32"):
        firmware_regions(build)
    (build / "bootloader.bin").unlink()
    with pytest.raises(ImageError, match=r"bootloader\.bin: No such file"):
        firmware_regions(build)


def test_build_with_another_layout_is_refused(build: Path) -> None:
    (build / "partitions.bin").write_bytes(build_table(LAYOUT[:3]))
    with pytest.raises(ImageError, match="another layout"):
        firmware_regions(build)


def test_app_larger_than_its_partition_is_refused(build: Path) -> None:
    (build / "firmware.bin").write_bytes(bytes(LAYOUT[2].size + 1))
    with pytest.raises(ImageError, match="room for 1,507,328"):
        firmware_regions(build)
