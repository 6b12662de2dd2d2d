"""Nodes' words in texts: found by the lines around them, or by what they were, and replaced."""

import json
import re
from typing import List, Tuple

from orchestrator.wire.plain import plain

REMOVED = "removed by `edgeward gateway scrub`"
"""Stands where a node's words were."""

_SHORTEST = 8
"""Characters of a text that is looked for inside other files: shorter ones would be found everywhere."""

STAMPED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")

_QUOTING = re.compile(
    r"(?P<kept>\S+ (?:declined|abstained|waits|refused what came in our name)|refused a message of [^:]+|failed|"
    r"going on where it stopped at \S+ \S+ UTC|"
    r"round \S+, attempt \S+: abstained): (?!" + re.escape(REMOVED) + r"$).*"
)
"""What a gateway's own lines say before a node's words."""


def clean_log(text: str) -> Tuple[str, int]:
    """(text, lines replaced): without what nodes said behind a gateway's own words, and the lines that went on with it."""
    count, lines, dropping = 0, [], False
    for line in text.splitlines(keepends=True):
        stamped = STAMPED.match(line)
        if dropping and not stamped:
            continue
        begins = stamped.end() if stamped else 0
        quoting = _QUOTING.match(line, begins)
        dropping = quoting is not None and stamped is not None
        if quoting:
            count += 1
            line = f"{line[:begins]}{quoting['kept']}: {REMOVED}\n"
        lines.append(line)
    return "".join(lines), count


def without(text: str, needles: List[str]) -> Tuple[str, int]:
    """(text, how many) with texts that were removed elsewhere replaced here, as they are and as JSON has them."""
    count = 0
    for needle in needles:
        for form in sorted({needle, json.dumps(needle)[1:-1], plain(needle)}, key=len, reverse=True):
            count += text.count(form)
            text = text.replace(form, REMOVED)
    return text, count


def worth_looking_for(text: str) -> bool:
    return len(text) >= _SHORTEST and text != REMOVED
