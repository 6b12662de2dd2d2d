"""The serial ports of this machine, and what each says it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional


@dataclass(frozen=True)
class SerialPort:
    device: str
    description: str
    """What the USB device calls itself; empty where it does not say."""
    usb_id: Optional[str]
    """Vendor and product, such as 10c4:ea60; None for a port that is not on USB."""
    serial_number: Optional[str]

    def __str__(self) -> str:
        return f"{self.device} ({self.description})" if self.description else self.device


def find_ports() -> List[SerialPort]:
    """Sorted by device."""
    from serial.tools.list_ports import comports

    found = []
    for port in comports():
        usb_id = None if port.vid is None else f"{port.vid:04x}:{port.pid:04x}"
        description = "" if port.description in (None, "n/a") else port.description
        found.append(SerialPort(port.device, description, usb_id, port.serial_number))
    return sorted(found, key=lambda port: port.device)


def list_ports() -> List[str]:
    """The ports as a message shows them: the device, and what it says it is."""
    return [str(port) for port in find_ports()]
