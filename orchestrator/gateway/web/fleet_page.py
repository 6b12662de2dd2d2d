"""The page of the fleet, made here and not in the browser. Every text in it that came from elsewhere goes through `_text`."""

from datetime import datetime, timezone
from html import escape
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlencode

from orchestrator.gateway.web.fleet import HERE, LEFT, UNHEARD, UNKNOWN
from orchestrator.gateway.web.fleet_order import failed_in, in_order, matches, newest_of
from orchestrator.gateway.web.listener import LISTENING, NOT_CONFIGURED
from orchestrator.wire.plain import many, plain

ROWS = 100
"""Of boards on a page."""
OUTCOMES_SHOWN = 60
"""Boards of a roll-out that are named: those that failed first."""
_MOST_TEXT = 160

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Fleet · Edgeward</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/style.css">
<script src="/static/theme.js"></script>
</head>
<body>
<main id="fleet">
"""
_PRESENCE = {HERE: "good", LEFT: "bad", UNHEARD: "off", UNKNOWN: "off"}
_STATES = {"running": "busy", "finished": "good", "halted": "bad", "failed": "bad", "lost": "warn"}
_WORDS = {
    "waiting": "waiting",
    "updating": "under way",
    "updated": "updated",
    "unchanged": "had it",
    "failed": "failed",
    "absent": "not there",
    "held": "not begun",
}
"""Of what becomes of a board in a roll-out."""


def fleet_page(fleet: Dict[str, Any], page: int = 1, wanted: str = "") -> str:
    """HTML of DashboardModel.fleet. page: of the table of boards, from 1; wanted: words that its rows have to have."""
    now = fleet["now"]
    newest = newest_of(fleet["rollouts"])
    failed = failed_in(newest)
    rows = in_order([board for board in fleet["boards"] if matches(board, wanted)], failed)
    parts = [
        _HEAD,
        '<nav aria-label="This page"><a href="/">← the dashboard</a><a href="/fleet">Read again</a></nav>\n',
        f'<div class="heading"><h1>Fleet</h1><p class="muted">federation {_text(fleet["federation"])}, '
        f"{many(len(fleet['boards']), 'board')} on a network themselves, at {_clock(now)}</p></div>\n",
        f'<p class="banner" role="alert">{_text(fleet["problem"], 500)}</p>\n' if fleet["problem"] else "",
        _notes(fleet),
        _figures(fleet),
        '<div class="grid">\n',
        *(_rollout(entry, now, entry is newest) for entry in fleet["rollouts"]),
        _boards(fleet, rows, page, wanted, failed),
        "</div>\n</main>\n</body>\n</html>\n",
    ]
    return "".join(parts)


def _text(value: object, most: int = _MOST_TEXT) -> str:
    """Of others: on one line, short, without markup, and with a direction of its own."""
    return f"<bdi>{escape(plain(value, most))}</bdi>"


def _notes(fleet: Dict[str, Any]) -> str:
    notes = []
    if fleet["state"] == NOT_CONFIGURED:
        notes.append("This dashboard was started without --broker, so it hears no boards.")
    elif fleet["state"] != LISTENING:
        notes.append(f"Not listening: {_text(fleet['state'], 300)}. Nobody knows now which board is there.")
    if not fleet["checked"]:
        notes.append(
            "Nothing here is checked: this dashboard has no secrets of the boards, and shows what the broker passed on. "
            "One that its owner starts with --fleet checks each record, and shows roll-outs."
        )
    if fleet["passed_over"]:
        notes.append(f"{many(fleet['passed_over'], 'message')} of further boards found no place here.")
    return "".join(f'<p class="note-box">{note}</p>\n' for note in notes)


def _figures(fleet: Dict[str, Any]) -> str:
    boards = [board for board in fleet["boards"] if board["of_fleet"] is not False]
    strangers = len(fleet["boards"]) - len(boards)
    others = f"; {strangers} more, not of the fleet" if strangers else ""
    here, gone = (sum(board["presence"] == state for board in boards) for state in (HERE, LEFT))
    models = {board["model"] for board in boards if board["model"] is not None}
    foreign = sum(board["foreign"] > 0 for board in boards)
    figures: List[Tuple[str, object, str]] = [
        ("Here", here, f"of {len(boards)}, by the broker's word{others}"),
        ("Gone", gone, "their connections ended"),
        ("Models", len(models), "different ones in use"),
        (
            "Under false names",
            foreign if fleet["checked"] else "–",
            "boards in whose name others wrote" if fleet["checked"] else "not checked",
        ),
    ]
    cells = "".join(
        f'<div><dt>{name}</dt><dd><span class="value">{value}</span><span class="note">{note}</span></dd></div>'
        for name, value, note in figures
    )
    return f'<dl class="figures">{cells}</dl>\n'


# Boards

_HEADS = (
    "board",
    "presence",
    "checked",
    "model",
    "state",
    "chip",
    "firmware, program",
    "last heard",
    "uptime then",
    "remarks",
)


def _boards(
    fleet: Dict[str, Any], rows: Sequence[Dict[str, Any]], page: int, wanted: str, failed: Mapping[str, str]
) -> str:
    if not fleet["boards"]:
        body = (
            '<div class="empty"><strong>No boards yet</strong><p>A board gets its place on the network with edgeward board '
            "connect PORT --name NAME --fleet DIR.</p></div>"
        )
        return _card("Boards", body, "fleet-boards")
    pages = max(1, -(-len(rows) // ROWS))
    page = min(max(page, 1), pages)
    shown = rows[(page - 1) * ROWS : page * ROWS]
    tools = (
        '<form class="tools" role="search" action="/fleet"><input type="search" name="q" aria-label="Search boards" '
        f'placeholder="Search boards" maxlength="100" value="{escape(plain(wanted, 100))}">'
        '<button class="quiet">Search</button></form>'
    )
    if not rows:
        nothing = (
            f'<p class="muted">No board has all words of {_text(wanted, 100)}. <a href="/fleet">All boards</a></p>'
        )
        return _card("Boards", tools + nothing, "fleet-boards", f"0 of {many(len(fleet['boards']), 'board')}")
    return _card(
        "Boards",
        tools
        + _table("Boards of the fleet", _HEADS, [_row(board, fleet["now"], failed) for board in shown])
        + _pager(page, pages, wanted),
        "fleet-boards",
        f"{many(len(rows), 'board')}, those not well first",
    )


def _row(board: Dict[str, Any], now: float, failed: Mapping[str, str]) -> List[str]:
    return [
        f"<strong>{_text(board['board'])}</strong>",
        _presence(board, now),
        _checked(board),
        _together(board["model"], board.get("name"), _signature(board)),
        _together(board.get("state")),
        _together(board.get("chip"), "simulated" if board.get("simulated") is True else None),
        _together(board.get("firmware"), board.get("program"), "on trial" if board.get("on_trial") is True else None),
        _heard(board, now),
        _duration(board["uptime_s"]),
        _remarks(board, failed),
    ]


def _presence(board: Dict[str, Any], now: float) -> str:
    state = board["presence"]
    pill = f'<span class="pill {_PRESENCE[state]}">{state}</span>'
    since = board["since"]
    if since is None:
        return pill
    return f'{pill}<br><span class="muted">{"for" if board["since_known"] else "for at least"} {_duration(now - since)}</span>'


def _checked(board: Dict[str, Any]) -> str:
    if board["of_fleet"] is False:
        return '<span class="pill warn">not of this fleet</span>'
    if board["verified"] is None:
        return "–"
    return f'<span class="pill {"good" if board["verified"] else "warn"}">{"by its secret" if board["verified"] else "no"}</span>'


def _signature(board: Dict[str, Any]) -> Optional[str]:
    signature = board.get("signature")
    return None if signature is None else f"signature {signature}"


def _heard(board: Dict[str, Any], now: float) -> str:
    if board["heard_at"] is not None:
        return f"{_duration(now - board['heard_at'])} ago"
    return "kept by the broker, age unknown" if board["kept"] else "–"


def _remarks(board: Dict[str, Any], failed: Mapping[str, str]) -> str:
    found = []
    if board["of_fleet"] and board["board"] in failed:
        found.append(f"failed in the newest roll-out: {_text(failed[board['board']])}")
    if board["foreign"]:
        found.append(f"{many(board['foreign'], 'message')} in its name not its own")
    if board["malformed"]:
        found.append(
            f"{many(board['malformed'], 'message')} that {'is' if board['malformed'] == 1 else 'are'} no record"
        )
    if "schema" in board:
        found.append(f"its records are of version {board['schema']}, which is not read here")
    remarks = "".join(f'<p class="reason">{text}</p>' for text in found)
    return remarks + (f'<span class="muted">{_measures(board)}</span>' if _measures(board) else "")


def _measures(board: Dict[str, Any]) -> str:
    named = (("inferences", "inferences"), ("errors", "errors"), ("heap_free_bytes", "bytes of heap free"))
    parts = [f"{board[key]:,} {name}" for key, name in named if isinstance(board.get(key), int)]
    psi = board.get("psi")
    return ", ".join([*parts, *([f"drift {psi:.2f}"] if isinstance(psi, (int, float)) else [])])


# Roll-outs


def _rollout(entry: Dict[str, Any], now: float, newest: bool) -> str:
    """The newest whole, one before it on a line that opens."""
    if "problem" in entry:
        return _card("Roll-out", f'<p class="reason">{_text(entry["problem"], 500)}</p>')
    title = f"Roll-out of {_text(entry['kind'])} {_text(entry['digest'])}"
    kind = _STATES[entry["state"]]
    if kind == "good" and entry["counts"]["failed"] + entry["counts"]["absent"]:
        kind = "warn"
    pill = f'<span class="pill {kind}">{entry["state"]}</span>'
    body = _stages(entry) + _outcomes(entry)
    if newest:
        return _card(title, _course(entry, now) + body, "rollout", pill)
    return _card(
        title, f"{_course(entry, now)}<details><summary>Stages and boards</summary>{body}</details>", None, pill
    )


def _course(entry: Dict[str, Any], now: float) -> str:
    began, ended = entry["began_at"], entry["ended_at"]
    written = entry["updated_at"]
    when = f"{_duration(now - written)} ago" if written <= now else _clock(written)
    over = f"ended {_clock(ended)}" if ended is not None else f"last written {when}"
    ahead = (
        "; that is in the future by the clock here, so its place in this list says nothing" if entry["ahead"] else ""
    )
    lost = "There is no word from it any more: its process may have been killed." if entry["state"] == "lost" else ""
    why = _text(entry["why"], 500) if entry["why"] else lost
    note = f'<p class="reason">{why}</p>' if why else ""
    return (
        f'<p class="muted">began {_clock(began)}, {over}{ahead}; more than {many(entry["failures"], "failure")} '
        f"end{'s' if entry['failures'] == 1 else ''} it</p>{note}"
    )


def _stages(entry: Dict[str, Any]) -> str:
    shown = [name for name in _WORDS if entry["counts"][name]]
    heads = ("stage", "up to", "boards", *(_WORDS[name] for name in shown))
    rows = [
        [
            f"{number}",
            f"{stage['percent']:g} %",
            str(sum(stage["counts"].values())),
            *(str(stage["counts"][name]) for name in shown),
        ]
        for number, stage in enumerate(entry["stages"], 1)
    ]
    return _table("Stages of the roll-out", heads, rows, heads)


def _outcomes(entry: Dict[str, Any]) -> str:
    """Of boards that were not simply updated, and of those that were as far as there is room."""
    begun = [board for board in entry["boards"] if board["outcome"] not in ("waiting", "held")]
    if not begun:
        return ""
    shown = begun[:OUTCOMES_SHOWN]
    rows = [
        [
            f"<strong>{_text(board['board'])}</strong>",
            str(board["stage"]),
            f'<span class="pill {_OUTCOME_PILLS.get(board["outcome"], "")}">{_WORDS[board["outcome"]]}</span>',
            _text(board["why"], 500),
        ]
        for board in shown
    ]
    more = sum(count for name, count in entry["counts"].items() if name not in ("waiting", "held")) - len(shown)
    rest = f'<p class="muted">and {many(more, "board")} more</p>' if more else ""
    return _table("Boards of the roll-out", ("board", "stage", "outcome", "why"), rows, ("stage",)) + rest


_OUTCOME_PILLS = {"failed": "bad", "updating": "busy", "absent": "warn", "updated": "good", "unchanged": "good"}


# Pieces


def _card(title: str, body: str, name: Optional[str] = None, aside: str = "") -> str:
    place = f' id="{name}"' if name else ""
    beside = aside if aside.startswith("<") else f'<span class="muted">{aside}</span>' if aside else ""
    head = f'<div class="card-head"><h2>{title}</h2>{beside}</div>'
    return f'<article class="card wide"{place}>{head}{body}</article>\n'


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = ()) -> str:
    """heads and cells: HTML. numeric: heads of columns of numbers."""
    kinds = ['class="numeric" ' if head in numeric else "" for head in heads]
    top = "".join(f'<th {kind}scope="col">{head}</th>' for kind, head in zip(kinds, heads))
    columns = list(zip(kinds, heads))
    body = "".join(
        "<tr>"
        + "".join(f'<td {kind}data-label="{head}">{cell}</td>' for (kind, head), cell in zip(columns, row))
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><caption class="hidden">{caption}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def _pager(page: int, pages: int, wanted: str) -> str:
    if pages == 1:
        return ""

    def link(name: str, to: int) -> str:
        query = escape(urlencode({"q": plain(wanted, 100), "page": to}))
        return f'<a href="/fleet?{query}">{name}</a>' if 1 <= to <= pages else ""

    return (
        f'<p class="pager" role="group" aria-label="Pages of boards">{link("Previous", page - 1)} page {page} of {pages} '
        f"{link('Next', page + 1)}</p>"
    )


def _together(*parts: Any) -> str:
    return "<br>".join(_text(part) for part in parts if part not in (None, "")) or "–"


_LONGEST_S = 100 * 365 * 86400.0


def _duration(seconds: Optional[float]) -> str:
    if seconds is None or not abs(seconds) < _LONGEST_S:
        return "–"
    seconds = max(0.0, seconds)
    for unit, size in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            count = int(seconds // size)
            return many(count, unit) if unit == "day" else f"{count} {unit}"
    return f"{int(seconds)} s"


def _clock(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "–"
