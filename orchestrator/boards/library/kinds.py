"""What a library can be packed for. The files of a kind are the folder of its name in templates/."""

from __future__ import annotations

KINDS = {
    "arduino": "an Arduino library",
    "cmake": "a CMake project",
    "espidf": "a component for ESP-IDF",
    "zephyr": "a module for Zephyr",
}
"""Kind -> what it is, for people."""
