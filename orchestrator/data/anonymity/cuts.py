"""Cuts that hospitals share, from the histograms of an analysis of all of them: a hospital is not known by where it cuts."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from orchestrator.data.anonymity.rules import Rules
from orchestrator.errors import DataError
from orchestrator.wire.special_files import read_file


def with_cuts(rules: Rules, result: Path, parts: int) -> Rules:
    """Cuts for every number that has none, where a result of `statistics` has a histogram of the column.

    The same result gives the same cuts everywhere: the edges nearest to equal shares of `parts`, of counts that may have noise.
    """
    histograms = _histograms(result)
    quasi = dict(rules.quasi)
    for name, each in rules.quasi.items():
        if name in histograms and not each.cuts and not each.levels and not each.hierarchy:
            edges = [edge for edge in shared_cuts(*histograms[name], parts) if each.minimum < edge < each.maximum]
            quasi[name] = replace(each, cuts=tuple(edges))
    if quasi == rules.quasi:
        raise DataError(
            f"{result}: has no histogram of a number among the quasi-identifiers; it has {', '.join(histograms) or 'none'}"
        )
    return replace(rules, quasi=quasi)


def shared_cuts(edges: Sequence[float], counts: Sequence[float], parts: int) -> List[float]:
    """Of edges (bins + 1,) those nearest to equal shares of counts (bins,); negative counts are noise, and count as none."""
    there = [max(0.0, count) for count in counts]
    total, so_far, found = sum(there), 0.0, []
    for edge, count in zip(edges[1:-1], there):
        before, so_far = so_far, so_far + count
        if total and int(so_far / total * parts) > int(before / total * parts):
            found.append(edge)
    return found


def _histograms(result: Path) -> Dict[str, Tuple[List[float], List[float]]]:
    try:
        said = json.loads(read_file(result).decode("utf-8"))
        return _of_tables(said["analysis"]["tables"])
    except OSError as error:
        raise DataError(f"{result}: {error.strerror}") from error
    except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise DataError(f"{result}: no result.json of a `statistics` analysis") from error


_NAME = "histogram "


def _of_tables(tables: Sequence[Dict[str, Any]]) -> Dict[str, Tuple[List[float], List[float]]]:
    found: Dict[str, Tuple[List[float], List[float]]] = {}
    for table in tables:
        if table["name"].startswith(_NAME):
            rows = [(float(low), float(high), float(count)) for low, high, count in table["rows"]]
            edges = [rows[0][0], *(high for _, high, _ in rows)]
            counts = [count for _, _, count in rows]
            if not (all(map(math.isfinite, (*edges, *counts))) and edges == sorted(set(edges))):
                raise ValueError("a histogram has rising edges, and finite counts")
            found[table["name"][len(_NAME) :]] = edges, counts
    return found
