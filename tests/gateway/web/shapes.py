"""The shape of a page: its landmarks, cards and headings in their order, each with its place and size in CSS pixels."""

from typing import Any, List, Optional

from chromium import Browser

_OUTLINE = """(() => {
    const parts = 'header, nav, main, h1, h2, .figures > div, article.card, .banner, .note-box, .sheet, figure.chart, form';
    const words = (e) => e.querySelector(':scope > dt')?.innerText.split(' ')[0] || (/^H\\d/.test(e.tagName) ? e.innerText : '');
    return [...document.querySelectorAll(parts)].filter((e) => e.checkVisibility()).map((e) => {
        const box = e.getBoundingClientRect();
        return [`${e.tagName.toLowerCase()} ${e.id || words(e)}`.trim(), ...[box.x, box.width, box.height].map(Math.round)];
    });
})()"""
_WIDE_PX, _WIDE_SHARE = 12, 0.03
_HIGH_PX, _HIGH_SHARE = 30, 0.3
"""How far a box may be off: fonts differ between machines, and a line more or less is no other shape."""

Shape = List[List[Any]]
"""[name, left, width, height] of each box."""


def shape_of(browser: Browser) -> Shape:
    found: Shape = browser.evaluate(_OUTLINE)
    return found


def difference(wanted: Shape, found: Shape) -> Optional[str]:
    """What of a page is otherwise; None for nothing."""
    names = [[box[0] for box in shape] for shape in (wanted, found)]
    if names[0] != names[1]:
        lost, new = (sorted(set(names[one]) - set(names[1 - one])) for one in (0, 1))
        return f"its parts are {names[1]}; missing {lost}, new {new}"
    for before, now in zip(wanted, found):
        for what, was, at, px, share in (
            ("left", before[1], now[1], _WIDE_PX, _WIDE_SHARE),
            ("width", before[2], now[2], _WIDE_PX, _WIDE_SHARE),
            ("height", before[3], now[3], _HIGH_PX, _HIGH_SHARE),
        ):
            if abs(at - was) > px + share * was:
                return f"{now[0]}: {what} {at} px, and was {was}"
    return None
