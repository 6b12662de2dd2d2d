"""What was built replaces what is shown, whatever either holds, and takes nothing from its reader's hands."""

from pathlib import Path

from stage import Stage

PLACE = """const { fill } = await import('/static/morph.js');
    const { el } = await import('/static/dom.js');
    const place = document.createElement('div');
    document.body.append(place);
    const row = (key) => el('p', {'data-key': key}, el('button', {}, `press ${key}`), el('span', {}, `text of ${key}`));
    const rows = (keys) => fill(place, [...keys].map(row));
    const text = (key) => place.querySelector(`[data-key=${key}] span`).firstChild;
    const select = (from, to) => getSelection().setBaseAndExtent(text(from), 5, text(to), 9);
    const keys = () => [...place.children].map((node) => node.dataset.key).join('');"""

# Pairs of random trees, in which one key may be of another kind of element than before, under focus and selection.
PAIRS = """
    let seed = 7;
    const dice = (n) => { seed ^= seed << 13; seed ^= seed >>> 17; seed ^= seed << 5; return (seed >>> 0) % n; };
    const build = (depth) => {
        const keys = ['a', 'b', 'c', 'd', 'e', 'f'];
        return Array.from({length: dice(6)}, () => {
            if (!dice(5)) return document.createTextNode(`text ${dice(3)}`);
            const node = document.createElement(['p', 'div', 'button'][dice(3)]);
            if (dice(4)) node.setAttribute(['id', 'data-key'][dice(2)], keys.splice(dice(keys.length), 1)[0]);
            if (dice(2)) node.className = `kind-${dice(3)}`;
            node.append(...(depth ? build(depth - 1) : [`leaf ${dice(4)}`]));
            return node;
        });
    };
    const one = (list) => list[dice(list.length)];
    let wrong = 0;
    for (let turn = 0; turn < 1500; turn += 1) {
        const wanted = document.createElement('div'), next = build(2), shown = [...place.querySelectorAll('*')];
        wanted.append(...next.map((node) => node.cloneNode(true)));
        if (shown.length && dice(2)) place.querySelector('button')?.focus();
        if (shown.length && dice(2)) getSelection().setBaseAndExtent(one(shown), 0, one(shown), 0);
        fill(place, next);
        if (!place.isEqualNode(wanted)) wrong += 1;
    }
    return wrong;"""


def within(stage: Stage, script: str) -> object:
    """What a script gives that has `rows` to draw, and the means to hold them."""
    stage.browser.wait("document.querySelector('#no-run')")
    return stage.browser.evaluate(f"(async () => {{ {PLACE} {script} }})()")


def test_what_is_shown_is_what_was_built(stage: Stage, tmp_path: Path) -> None:
    with stage.showing(tmp_path):
        assert within(stage, PAIRS) == 0


def test_what_is_selected_over_several_rows_stays_where_others_move(stage: Stage, tmp_path: Path) -> None:
    orders = ["adbce", "eabcd", "bcade", "dbeca"]
    script = f"""
        const found = [];
        for (const [from, to] of ['bc', 'cb']) for (const order of {orders}) {{
            rows('abcde');
            select(from, to);
            rows(order);
            const {{ anchorNode, anchorOffset, focusNode, focusOffset }} = getSelection();
            const stayed = anchorNode === text(from) && anchorOffset === 5 && focusNode === text(to) && focusOffset === 9;
            found.push([order, keys(), stayed]);
        }}
        return found;"""
    with stage.showing(tmp_path):
        assert within(stage, script) == [[order, order, True] for order in orders] * 2
