"""Names and texts of a manifest, which anybody may have written, as parts of C, and of nothing else.

What a library is called in C, in CMake, in YAML and on the disk is what `identifier` leaves of a model's name; the texts
themselves stand in C string literals (`c_string`) and in an indented block of README.md only.
"""

from __future__ import annotations

import re
import unicodedata

END = "_model"
MOST = 48


def identifier(name: str, digest: str) -> str:
    """What everything of a library begins with: lower case, C, CMake, Kconfig and file systems read it as one word.

    It ends in "_model", so it is no keyword, and its header none of the system's (a model may be called "signal" or "math").
    digest: 16 hexadecimal digits, of which a name without a letter or digit of ASCII is made.
    """
    folded = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower()
    words = re.sub(r"[^a-z0-9]+", "_", folded).strip("_")[: MOST - len(END)].strip("_")
    if not words:
        words = f"m{digest[:8]}"
    if words[0].isdecimal():
        words = f"m{words}"[: MOST - len(END)].strip("_")
    return words if words == END[1:] or words.endswith(END) else words + END


def c_string(text: str) -> str:
    """A literal of C and C++ that is these bytes of UTF-8: nothing in it ends it, and nothing is a trigraph."""
    return '"' + "".join(_in_c(byte) for byte in text.encode("utf-8", "backslashreplace")) + '"'


def _in_c(byte: int) -> str:
    """Octal escapes have three digits at most, so what follows one is never part of it."""
    character = chr(byte)
    return character if 0x20 <= byte < 0x7F and character not in '"\\?' else f"\\{byte:03o}"


def c_float(value: float) -> str:
    """The literal of a float32, bit for bit."""
    digits = f"{value:.9g}"
    return f"{digits}f" if re.search(r"[.e]", digits) else f"{digits}.0f"
