"""Files to flash, made by hand from the documented formats and not with the code under test."""

import hashlib
import random
import struct
import zlib

CHIP_IDS = {"esp32": 0, "esp32c3": 5, "esp32s3": 9}


def model_bin(content_bytes: int = 20_000, seed: int = 1) -> bytes:
    """A model.bin (docs/design.md, section 9) around random bytes."""
    body = random.Random(seed).randbytes(content_bytes)
    body += bytes(-len(body) % 16)
    header = struct.pack("<4sHHIII", b"EWMB", 1, 256, 256 + len(body), 2000, 0)
    header += struct.pack("<IIIIIII", 256, content_bytes, 0, 0, 0, 0, 0)
    header += hashlib.sha256(body).digest() + bytes(64)
    header += struct.pack("<HH32H", 1, 0, 9, *[0] * 31) + b"sample".ljust(32, b"\0") + bytes(8)
    return header + struct.pack("<I", zlib.crc32(header)) + body


def esp_image(chip: str, content_bytes: int, seed: int = 2) -> bytes:
    """An image as ESP-IDF builds it: header, two segments, checksum, SHA-256."""
    segments = [random.Random(seed + i).randbytes(content_bytes // 2) for i in range(2)]
    image = struct.pack("<BBBBI", 0xE9, len(segments), 2, 0x20, 0x40000000)
    image += bytes([0xEE, 0, 0, 0]) + struct.pack("<HBHH", CHIP_IDS[chip], 0, 0, 0xFFFF) + bytes(4) + b"\x01"
    checksum = 0xEF
    for i, segment in enumerate(segments):
        image += struct.pack("<II", 0x3F400020 + 0x10000 * i, len(segment)) + segment
        for byte in segment:
            checksum ^= byte
    image += bytes(15 - len(image) % 16) + bytes([checksum])
    return image + hashlib.sha256(image).digest()
