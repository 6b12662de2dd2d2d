"""A table as a hospital might export it, which nobody prepared for training."""

import random
from typing import List

NAMES = "visit id,pat_id,admitted,age,lactate,sex,ward,smoker,score,empty,site,notes,temp,zip,sepsis"


def rows(count: int = 240) -> List[List[str]]:
    """Visits of patients: with ids, dates, free text, gaps, a constant, values of mixed kinds, spellings of nothing."""
    draw = random.Random(7)
    made = []
    for i in range(count):
        sick = draw.random() < 0.4
        made.append(
            [
                f"{5000 + 3 * i}",
                f"p{i % 80:03}",
                f"2024-0{1 + i % 9}-1{i % 10}",
                str(draw.randint(21, 88)),
                "n/a" if i == 5 else f"{draw.uniform(0.4, 3) + 2 * sick:.2f}",
                draw.choice("MF"),
                draw.choice(["surgical", "medical", "icu", "none"]),
                draw.choice(["yes", "no"]),
                draw.choice("1234"),
                "",
                "north",
                f"seen by Dr {draw.random():.9f} at night",
                "" if i % 3 else f"{draw.uniform(36, 41):.1f}",
                "<5" if i == 9 else f"{draw.randint(1, 90)}",
                "septic" if sick else "no",
            ]
        )
    return made
