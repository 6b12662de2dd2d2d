"""How long series of generated cases are: whole, or a share of them where a suite repeats what another has run.

EDGEWARD_CASES_SHARE=0.1 runs a tenth. The suite on Python 3.8 does, since the same cases run whole on the current one.
"""

import os

from hypothesis import settings

SHARE = float(os.environ.get("EDGEWARD_CASES_SHARE", "1"))
LEAST = 10
"""Cases that are run of each series, however small the share."""


def of_cases(whole: int) -> int:
    """How many of `whole` cases to run."""
    return min(whole, max(LEAST, int(whole * SHARE)))


def examples(whole: int) -> settings:
    """Settings for a test of hypothesis with so many examples, of whatever time the machine takes."""
    return settings(max_examples=of_cases(whole), deadline=None)
