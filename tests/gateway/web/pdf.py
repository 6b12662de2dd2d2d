"""What can be read on the pages of a PDF as Chromium writes it: enough to compare a print with what it must say, and no more.

Objects stand in the open and streams are deflated; text is glyph numbers, which each font's /ToUnicode translates.
"""

import re
import unicodedata
import zlib
from typing import Dict, List, Tuple

_OBJECT = re.compile(rb"(\d+) 0 obj\s(.*?)\sendobj", re.S)
_STREAM = re.compile(rb"stream\r?\n(.*?)\nendstream", re.S)
_SHOWN = re.compile(rb"/(\w+) [\d.]+ Tf|<([0-9A-Fa-f]+)> Tj|\[(.*?)\] TJ|(?<![\w/])(ET)(?!\w)", re.S)

Meanings = Tuple[int, Dict[int, str]]


class Pdf:
    def __init__(self, content: bytes) -> None:
        self._objects = {int(number): body for number, body in _OBJECT.findall(content)}
        self._fonts: Dict[int, Meanings] = {}

    def pages(self) -> List[str]:
        """The text of each page, with single spaces, in the order in which it was painted."""
        tree = next(body for body in self._objects.values() if re.search(rb"/Type\s*/Pages", body))
        kids = re.search(rb"/Kids\s*\[(.*?)\]", tree, re.S)
        assert kids is not None
        return [self._text(self._objects[int(number)]) for number in re.findall(rb"(\d+) 0 R", kids[1])]

    def sizes_mm(self) -> List[Tuple[int, int]]:
        boxes = [re.search(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", body) for body in self._objects.values()]
        return [(round(float(b[1]) * 25.4 / 72), round(float(b[2]) * 25.4 / 72)) for b in boxes if b is not None]

    def _text(self, page: bytes) -> str:
        contents = re.search(rb"/Contents\s+(\d+) 0 R", page)
        assert contents is not None
        fonts = {
            name: self._font(int(number)) for name, number in re.findall(rb"/(F\d+)\s+(\d+) 0 R", self._resources(page))
        }
        words: List[str] = []
        font: Meanings = (2, {})
        for name, one, several, end in _SHOWN.findall(self._stream(self._objects[int(contents[1])])):
            if name:
                font = fonts.get(name, font)
            elif end:
                words.append(" ")
            else:
                words += [
                    _read(digits, *font) for digits in ([one] if one else re.findall(rb"<([0-9A-Fa-f]+)>", several))
                ]
        return unicodedata.normalize("NFKC", " ".join("".join(words).split()))  # ligatures as their letters

    def _resources(self, page: bytes) -> bytes:
        shared = re.search(rb"/Resources\s+(\d+) 0 R", page)
        return self._objects[int(shared[1])] if shared else page

    def _font(self, number: int) -> Meanings:
        if number not in self._fonts:
            described = re.search(rb"/ToUnicode\s+(\d+) 0 R", self._objects[number])
            self._fonts[number] = _meanings(self._stream(self._objects[int(described[1])])) if described else (2, {})
        return self._fonts[number]

    @staticmethod
    def _stream(body: bytes) -> bytes:
        found = _STREAM.search(body)
        assert found is not None
        packed = b"/FlateDecode" in body[: found.start()]
        # What stands between the data and its end, a line end of one byte or two, is no part of it.
        return zlib.decompressobj().decompress(found[1]) if packed else found[1]


def _read(digits: bytes, width: int, meanings: Dict[int, str]) -> str:
    step = 2 * width
    return "".join(meanings.get(int(digits[i : i + step], 16), "") for i in range(0, len(digits), step))


def _meanings(described: bytes) -> Meanings:
    """(bytes of a glyph's number, glyph -> text) of a /ToUnicode table."""
    space = re.search(rb"begincodespacerange\s*<([0-9A-Fa-f]+)>", described)
    found: Dict[int, str] = {}
    for part in re.findall(rb"beginbfchar(.*?)endbfchar", described, re.S):
        found.update({int(glyph, 16): _utf16(text) for glyph, text in re.findall(rb"<(\w+)>\s*<(\w+)>", part)})
    for part in re.findall(rb"beginbfrange(.*?)endbfrange", described, re.S):
        for first, last, text in re.findall(rb"<(\w+)>\s*<(\w+)>\s*<(\w+)>", part):
            for glyph in range(int(first, 16), int(last, 16) + 1):
                found[glyph] = chr(ord(_utf16(text)[0]) + glyph - int(first, 16))
    return (len(space[1]) // 2 if space else 2), found


def _utf16(digits: bytes) -> str:
    return bytes.fromhex(digits.decode()).decode("utf-16-be", "replace")
