"""Takes the pictures of docs: `python tests/gateway/web/screens.py --write docs/screens [--only STATE]` (needs Chromium).

Of every state in scenes.py one at 1280 pixels, light and dark, and one of a phone; and shapes.json, which the tests compare with.
"""

import argparse
import io
import json
import tempfile
from pathlib import Path
from typing import Dict

from chromium import Browser
from PIL import Image
from scenes import STATES, State, open_state
from shapes import Shape, shape_of
from stage import Stage

HIGHEST = {1280: 1500, 390: 1400}
"""CSS pixels of a picture, from the top of the page."""
COLOURS = 96


def take(stage: Stage, state: State, width: int, folder: Path, shapes: Dict[str, Shape]) -> None:
    open_state(stage, state, width)
    shapes[f"{state.name}-{width}"] = shape_of(stage.browser)
    save(stage.browser, folder / f"{state.name}-{width}.png", HIGHEST[width])
    if width == 1280:
        stage.browser.dark(True)
        save(stage.browser, folder / f"{state.name}-dark.png", HIGHEST[width])
        stage.browser.dark(False)


def save(browser: Browser, path: Path, height: int, colours: int = COLOURS) -> None:
    browser.picture(path, height)
    small = Image.open(io.BytesIO(path.read_bytes())).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def take_covers(stage: Stage, state: State, folder: Path) -> None:
    """The two pictures at the head of docs/dashboard.md: all of an open round, and its top on a phone with a fine screen."""
    open_state(stage, state, 1280)
    save(stage.browser, folder / "dashboard.png", 10_000, 256)
    stage.browser.size(390, 844, 2.0, mobile=True)
    save(stage.browser, folder / "dashboard-phone.png", 1500, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--only", metavar="STATE", help="take this one's; pictures and shapes of the others stay")
    given = parser.parse_args()
    folder = given.write
    folder.mkdir(parents=True, exist_ok=True)
    shapes: Dict[str, Shape] = json.loads((folder / "shapes.json").read_text()) if given.only else {}
    with tempfile.TemporaryDirectory() as scratch, Browser() as browser:
        stage = Stage(Path(scratch), browser, Path(scratch))
        for state in (state for state in STATES if given.only in (None, state.name)):
            out = Path(scratch) / state.name
            out.mkdir()
            with state.shown(stage, out):
                for width in (1280, 390):
                    take(stage, state, width, folder, shapes)
                if state.name == "training":
                    take_covers(stage, state, folder.parent)
            print(state.name, flush=True)
        stage.close()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(shape, ensure_ascii=False)}" for name, shape in shapes.items())
    (folder / "shapes.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
