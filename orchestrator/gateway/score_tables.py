"""Figures of a model as rows of text: value, interval of 95 %, or that noise hides it. For tables, pages and progress."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

LABELS = {
    "records": "records",
    "base_rate": "base rate",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "macro_f1": "macro-F1",
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "r2": "R2",
    "mae": "mean absolute error",
    "concordance": "concordance",
    "rmse": "root mean square error",
    "deviance": "mean deviance",
    "loss": "loss",
    "threshold": "threshold of scores",
    "calibration_error": "calibration error",
    "calibration_slope": "calibration slope",
}
THRESHOLDS = {"youden": "by Youden's index", "sensitivity": "for a sensitivity of 0.9"}
TOO_NOISY = "too noisy to show"
_OF_A_SITE = ("records", "base_rate", "accuracy", "sensitivity", "specificity", "auc", "r2", "mae", "rmse")

Figures = Mapping[str, Any]


def cell(figures: Figures, name: str) -> str:
    """One figure with its interval; "-" for a missing figure."""
    value = figures.get(name)
    if value is None:
        return TOO_NOISY if name in figures.get("too_noisy", ()) else "-"
    digits = ".0f" if name == "records" else ".3f"
    interval = figures.get("intervals", {}).get(name)
    ends = f" [{interval[0]:{digits}}, {interval[1]:{digits}}]" if interval is not None else ""
    return f"{value:{digits}}{ends}"


def chosen(report: Mapping[str, Any]) -> Dict[str, Figures]:
    """What there is to show of a result, by title: figures of the int8 model on the gateway's rows (before there is one, of the
    last round's weights), and of the newest evaluation of held-out records."""
    found: Dict[str, Figures] = {}
    metrics, results = (report.get("metrics") or {}).get("tflm"), report.get("per_round") or ()
    own = [result for result in results if result.get("loss") is not None and "intervals" in result]
    federated = [result for result in results if result.get("federated")]
    if metrics:
        found["int8 model, gateway's rows"] = metrics
    elif own:
        found[f"round {own[-1]['round']}, gateway's rows"] = own[-1]
    if federated:
        found[f"round {federated[-1]['round']}, held out on the nodes"] = federated[-1]["federated"]
    return found


def shown_of(stated: Mapping[str, Any]) -> Dict[str, Figures]:
    """What a bundle's manifest states (stated_figures.of_report), by title; what is no figure is left out."""
    return {title: _figures_in(figures) for title, figures in stated.items() if isinstance(figures, Mapping)}


def _figures_in(figures: Mapping[str, Any]) -> Dict[str, Any]:
    intervals, hidden = figures.get("intervals"), figures.get("too_noisy")
    ends = intervals.items() if isinstance(intervals, Mapping) else ()
    return {
        **{name: figures[name] for name in LABELS if _number(figures.get(name))},
        "intervals": {k: v for k, v in ends if isinstance(v, list) and len(v) == 2 and all(map(_number, v))},
        "too_noisy": hidden if isinstance(hidden, list) else [],
    }


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def renamed(columns: Mapping[str, Figures], names: Mapping[str, str]) -> Dict[str, Figures]:
    """The same with nodes under other names."""
    found: Dict[str, Figures] = {}
    for title, figures in columns.items():
        by_name = {key: figures[key] for key in ("per_node", "sites") if key in figures}
        found[title] = {
            **figures,
            **{key: {names.get(name, name): value for name, value in of.items()} for key, of in by_name.items()},
        }
    return found


def rows(columns: Mapping[str, Figures], classes: Sequence[str] = ()) -> List[List[str]]:
    """Heads and a row for each figure that any column has. classes: their names, the second the positive one of two."""
    table = [["", *columns]]
    for name, label in LABELS.items():
        cells = [cell(figures, name) for figures in columns.values()]
        if set(cells) != {"-"}:
            table.append([label, *cells])
    if any(len(figures.get("recall") or ()) > 2 for figures in columns.values()):
        table += _recalls(columns, classes)
    for name in dict.fromkeys(name for figures in columns.values() for name in figures.get("aucs") or {}):
        areas = [{"auc": (figures.get("aucs") or {}).get(name)} for figures in columns.values()]
        table.append([f"AUC of {name}", *(cell(each, "auc") for each in areas)])
    for name, label in THRESHOLDS.items():
        cells = [_threshold(figures, name) for figures in columns.values()]
        if set(cells) != {"-"}:
            table.append([f"threshold {label}", *cells])
    return table


def site_rows(figures: Figures) -> List[List[str]]:
    """Heads and a row for each site (or node); nothing where there are none, or one."""
    sites: Mapping[str, Figures] = figures.get("sites") or figures.get("per_node") or {}
    if len(sites) < 2 or not all(isinstance(site, Mapping) for site in sites.values()):
        return []
    names = [name for name in _OF_A_SITE if any(cell(site, name) != "-" for site in sites.values())]
    heads = ["site", *(LABELS[name] for name in names)]
    return [heads, *([site, *(cell(found, name) for name in names)] for site, found in sorted(sites.items()))]


def warnings(columns: Mapping[str, Figures]) -> List[str]:
    """Why good-looking figures mean little: a line each."""
    return [f"{title}: {figures['warning']}" for title, figures in columns.items() if figures.get("warning")]


def _recalls(columns: Mapping[str, Figures], classes: Sequence[str]) -> List[List[str]]:
    most = max(len(figures.get("recall") or ()) for figures in columns.values())
    table = []
    for one in range(most):
        name = classes[one] if one < len(classes) else f"class {one}"
        table.append([f"recall of {name}", *(_recall(figures, one) for figures in columns.values())])
    return table


def _recall(figures: Figures, one: int) -> str:
    recall, ends = figures.get("recall") or (), figures.get("intervals", {}).get("recall") or ()
    if one >= len(recall):
        return "-"
    interval: Optional[Sequence[float]] = ends[one] if one < len(ends) else None
    hidden = {"too_noisy": ["recall"]} if figures.get("noise") else {}
    return cell({"recall": recall[one], "intervals": {"recall": interval}, **hidden}, "recall")


def _threshold(figures: Figures, name: str) -> str:
    at = (figures.get("thresholds") or {}).get(name)
    if at is None:
        return "-"
    return f"{at['threshold']:.3f}: sensitivity {cell(at, 'sensitivity')}, specificity {cell(at, 'specificity')}"


def page(report: Mapping[str, Any], classes: Sequence[str]) -> Optional[Dict[str, Any]]:
    """{rows, sites: [{title, rows}], warnings} for a page; None where there is nothing to show."""
    columns = chosen(report)
    if not columns:
        return None
    sites = [{"title": title, "rows": site_rows(figures)} for title, figures in columns.items()]
    return {
        "rows": rows(columns, classes),
        "sites": [site for site in sites if site["rows"]],
        "warnings": warnings(columns),
    }
