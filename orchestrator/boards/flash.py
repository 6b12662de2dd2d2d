"""Write models and firmware into a board's flash over its serial port, with esptool as a library.

Everything that can be checked is checked before the first byte is written: the files (flash_images), the port, the chip,
and for a model alone that the board's partition table is ours. Every region is compared by MD5 afterwards.
"""

from __future__ import annotations

import errno
import hashlib
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from model_export.chips import CHIPS
from orchestrator.boards.flash_images import Region
from orchestrator.boards.partitions import (
    EARLIER_LAYOUTS,
    FLASH_BYTES,
    KEYS,
    LAYOUT,
    SLOTS,
    TABLE_BYTES,
    TABLE_OFFSET,
    build_table,
)
from orchestrator.boards.ports import list_ports
from orchestrator.errors import EdgewardError, GivenError

ROM_BAUD = 115200
DEFAULT_BAUD = 460800


class FlashError(EdgewardError):
    """The board could not be flashed. Says what was written, if anything."""


class PortNotFoundError(FlashError, GivenError):
    """No such port. Lists those that exist."""


class PortDeniedError(FlashError):
    """The port exists, but this user or another program keeps us from it."""


class NoAnswerError(FlashError):
    """The port is there, but no bootloader answers."""


class WrongChipError(FlashError):
    """The board is not the chip asked for, or not one the files were built for. Nothing was written."""


class WrongLayoutError(FlashError):
    """The board's flash has no model slots where ours are, or is too small for them. Nothing was written."""


class PortLostError(FlashError):
    """The connection broke while writing. Says in which state that leaves the board."""


class VerifyError(FlashError):
    """Flash does not hold what was written."""


@dataclass(frozen=True)
class Written:
    region: Region
    skipped: bool
    """True when flash already held these bytes, so nothing was written."""


@dataclass(frozen=True)
class FlashResult:
    port: str
    chip: str
    written: Tuple[Written, ...]
    verified: bool
    seconds: float
    warnings: Tuple[str, ...] = ()


Progress = Callable[[Region, float], None]
"""Called with the region being written and the part of it that is done, 0 to 1."""


def flash(
    port: str,
    regions: Sequence[Region],
    *,
    chip: str = "auto",
    baud: int = DEFAULT_BAUD,
    stub: bool = True,
    verify: bool = True,
    progress: Optional[Progress] = None,
) -> FlashResult:
    """Write `regions` in their order. Bytes the flash already holds are not written again.

    `port` is a device or a pyserial URL (socket://host:port). `chip` other than "auto" must be what is found. `baud` is
    the speed after connecting. `stub=False` stays with the chip's ROM loader: slower, for simulators. `verify=False`
    leaves out the last comparison of all regions; esptool still checks each one as it is written.

    Raises the errors of this module; all but PortLostError and VerifyError mean that nothing was written.
    """
    started = time.monotonic()
    _check_chip_known(chip, regions)
    with _esptool_says() as said, _open(port) as serial_port:
        esp = _connect(serial_port, port)
        _check_chip_found(esp, chip, regions)
        with _reporting(port, "preparing", [], regions):
            esp = _prepare(esp, port, baud, stub)
            warnings = _check_table(esp, regions)
        done: List[Written] = []
        for region in regions:
            with _reporting(port, f"writing the {region.name}", done, regions):
                done.append(write_region(esp, region, said, progress))
        if verify:
            with _reporting(port, "verifying", done, regions):
                _verify(esp, regions)
        _restart(esp, port, done, regions)
        found = _chip_name(esp)
    return FlashResult(port, found, tuple(done), verify, time.monotonic() - started, tuple(warnings))


# --- the port ---------------------------------------------------------------------------------------------------------


@contextmanager
def _open(port: str) -> Iterator[Any]:
    import serial

    try:
        opened = serial.serial_for_url(port, baudrate=ROM_BAUD, exclusive=True)
    except (serial.SerialException, OSError, ValueError) as error:
        raise port_error(port, error) from error
    try:
        yield opened
    finally:
        opened.close()


def port_error(port: str, error: Exception) -> FlashError:
    """What a user can do about a port that would not open."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return PortDeniedError(
            f"{port}: permission denied; add yourself to the group that owns it "
            "(`sudo usermod -aG dialout $USER`, on Arch uucp), then log in again"
        )
    if number in (errno.EBUSY, errno.EAGAIN):
        return PortDeniedError(f"{port}: in use by another program; close its monitor first")
    if "://" in port and not re.match(r"[a-z0-9]+://[^/:]+:\d+", port):
        return PortNotFoundError(f"{port}: a port over the network is socket://HOST:PORT or rfc2217://HOST:PORT")
    if "://" in port:
        return PortNotFoundError(f"{port}: cannot be opened: {error}")
    there = list_ports()
    listing = "these are there:\n  " + "\n  ".join(there) if there else "this machine has no serial port at all"
    reason = "no such port" if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO) else f"cannot be opened: {error}"
    return PortNotFoundError(f"{port}: {reason}; {listing}")


@contextmanager
def _reporting(port: str, doing: str, done: Sequence[Written], regions: Sequence[Region]) -> Iterator[None]:
    """Turn what esptool and pyserial raise into what it means for the board."""
    import serial
    from esptool.util import FatalError

    try:
        yield
    except (serial.SerialException, OSError) as error:
        raise PortLostError(f"{port}: lost while {doing} ({error}). {_state(doing, done, regions)}") from error
    except FatalError as error:
        # esptool has one class for all it says; a board that fell silent is known by the words of its packet reader.
        silent = any(words in str(error) for words in ("No serial data", "data stream stopped", "transfer stopped"))
        kind = PortLostError if silent else FlashError
        raise kind(f"{port}: failed while {doing} ({error}). {_state(doing, done, regions)}") from error


def _state(doing: str, done: Sequence[Written], regions: Sequence[Region]) -> str:
    """The state of a board after an interruption, and the way out of it."""
    again = "Connect the board again and repeat the command."
    if not doing.startswith("writing"):
        return f"{'All has been written.' if done else 'Nothing was written.'} {again}"
    current = regions[len(done)]
    if current.model is not None:
        return (
            f"The {current.name} is incomplete: the firmware sees that by its SHA-256 and does not load it. "
            f"Firmware and the other slot are as they were, so the board starts. {again}"
        )
    if current.address == KEYS.offset:
        return f"The keys may be missing, and then unsigned models run: repeat it before the board is used. {again}"
    if current.address >= SLOTS["a"].offset:
        return f"Models and firmware are as they were. {again}"
    return (
        f"The {current.name} is incomplete: the board does not start until it has been flashed whole. Its ROM "
        f"loader cannot be damaged. {again} If it is not found, hold BOOT while pressing RESET."
    )


# --- the chip ---------------------------------------------------------------------------------------------------------


def _check_chip_known(chip: str, regions: Sequence[Region]) -> None:
    if chip != "auto" and chip not in CHIPS:
        raise WrongChipError(f"unknown chip {chip!r}; Edgeward runs on {', '.join(sorted(CHIPS))}")
    for region in regions:
        if chip != "auto" and region.chip not in (None, chip):
            raise WrongChipError(f"the {region.name} was built for {region.chip}, not for {chip}; nothing was written")


def _connect(serial_port: Any, port: str) -> Any:
    import serial
    from esptool.cmds import detect_chip
    from esptool.util import FatalError

    try:
        return detect_chip(serial_port, ROM_BAUD, "no-reset" if "://" in port else "default-reset")
    except (FatalError, serial.SerialException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise NoAnswerError(
            f"{port}: no bootloader answers ({reason}). Hold BOOT, press and release RESET, release BOOT, try again; "
            "and see that the cable carries data"
        ) from error


def _chip_name(esp: Any) -> str:
    return str(esp.CHIP_NAME).lower().replace("-", "")


def _check_chip_found(esp: Any, chip: str, regions: Sequence[Region]) -> None:
    found = _chip_name(esp)
    if found not in CHIPS:
        raise WrongChipError(f"the board is {esp.CHIP_NAME}; Edgeward runs on {', '.join(sorted(CHIPS))}")
    if chip not in ("auto", found):
        raise WrongChipError(f"the board is {found}, not {chip}; nothing was written")
    for region in regions:
        if region.chip not in (None, found):
            raise WrongChipError(
                f"the {region.name} was built for {region.chip}, the board is {found}; nothing was written. "
                f"Build the environment for {found}"
            )


def _prepare(esp: Any, port: str, baud: int, stub: bool) -> Any:
    from esptool.cmds import attach_flash, detect_flash_size, run_stub
    from esptool.util import flash_size_bytes

    if stub:
        esp = run_stub(esp)
    if baud != ROM_BAUD and "://" not in port:
        esp.change_baud(baud)
    attach_flash(esp)
    # Until it knows the size, a ROM loader assumes 2 MB of flash and cannot even compute an MD5 of a model slot.
    size = flash_size_bytes(detect_flash_size(esp)) or FLASH_BYTES
    if size < FLASH_BYTES:
        raise WrongLayoutError(f"the board has {size >> 20} MB of flash, {FLASH_BYTES >> 20} MB are needed")
    esp.flash_set_parameters(size)
    # esptool would wait for the port to come back and go on by itself; what it leaves behind is for us to say.
    esp.WRITE_FLASH_ATTEMPTS = 1
    return esp


def _check_table(esp: Any, regions: Sequence[Region]) -> List[str]:
    """A model alone goes where the board's own table says a slot is, and nowhere else."""
    if any(region.address == TABLE_OFFSET for region in regions):
        return []
    found = esp.flash_md5sum(TABLE_OFFSET, TABLE_BYTES)
    if found in [md5_of(build_table(layout)) for layout in (LAYOUT, *EARLIER_LAYOUTS)]:
        return []
    if found == md5_of(b"\xff" * TABLE_BYTES):
        return ["this board has no firmware yet: the model waits in flash until --everything brings one"]
    raise WrongLayoutError(
        "the board's partition table is not Edgeward's, so a model would overwrite something else; nothing was written. "
        "Use --everything --firmware DIR to install the firmware first"
    )


def md5_of(data: bytes) -> str:
    """As the chip's loader reports it."""
    return hashlib.md5(data).hexdigest()


# --- writing ----------------------------------------------------------------------------------------------------------


def write_region(esp: Any, region: Region, said: _Said, progress: Optional[Progress]) -> Written:
    from esptool.cmds import write_flash

    if esp.flash_md5sum(region.address, len(region.data)) == md5_of(region.data):
        return Written(region, skipped=True)
    said.on_progress = None if progress is None else lambda part: progress(region, part)
    write_flash(esp, [(region.address, region.data)])
    said.on_progress = None
    return Written(region, skipped=False)


def _verify(esp: Any, regions: Sequence[Region]) -> None:
    for region in regions:
        if esp.flash_md5sum(region.address, len(region.data)) != md5_of(region.data):
            raise VerifyError(
                f"the {region.name} at {region.address:#x} reads back different from what was written; "
                "repeat the command, and if it happens again the flash chip or its supply is bad"
            )


def _restart(esp: Any, port: str, done: Sequence[Written], regions: Sequence[Region]) -> None:
    """Into the new firmware. A socket has no reset line: the simulation restarts the board."""
    from esptool.cmds import reset_chip

    if "://" not in port:
        with _reporting(port, "restarting", done, regions):
            reset_chip(esp, "hard-reset")


class _Said:
    """Stands in for esptool's log: keeps its lines off the terminal and takes its progress."""

    def __init__(self) -> None:
        self.on_progress: Optional[Callable[[float], None]] = None


@contextmanager
def _esptool_says() -> Iterator[_Said]:
    from esp_pylib.logger import EspLog
    from esptool.logger import TemplateLogger, log

    said = _Said()

    class Quiet(TemplateLogger):
        def print(self, *args: Any, **kwargs: Any) -> None:
            pass

        def note(self, message: str) -> None:
            pass

        def warning(self, message: str) -> None:
            pass

        def error(self, message: str) -> None:
            pass

        def stage(self, finish: bool = False) -> None:
            pass

        def set_verbosity(self, verbosity: str) -> None:
            pass

        def progress_bar(
            self, cur_iter: int, total_iters: int, prefix: str = "", suffix: str = "", bar_length: int = 30
        ) -> None:
            if said.on_progress is not None and total_iters > 0:
                said.on_progress(cur_iter / total_iters)

    before = EspLog.instance
    log.set_logger(Quiet())
    try:
        yield said
    finally:
        EspLog.instance = before
