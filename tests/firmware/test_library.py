"""What is in a library of `edgeward model export --as KIND`: its names, its sources, and what it refuses."""

import ast
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st
from library_models import LABELS, NAMES, dense, library_models
from one_op_models import Edge, one_op
from random_trees import random_trees

from model_export.bundle import write_bundle
from model_export.manifest import MANIFEST, dump_manifest
from model_export.plan import kinds
from model_export.trees_bundle import write_trees_bundle
from orchestrator.boards.host_engine import firmware_dir
from orchestrator.boards.library.engine_sources import ALWAYS, FOLDER, kernels, own
from orchestrator.boards.library.kinds import KINDS
from orchestrator.boards.library.names import c_float, c_string, identifier
from orchestrator.boards.library.packaged import library_of
from orchestrator.boards.library.templates import FOLDER as TEMPLATES
from orchestrator.boards.library.templates import filled
from orchestrator.cli.main import main
from orchestrator.files import new_folder

DIGEST = "0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("signal", "signal_model"),
        ("Model", "model"),
        ("my-model", "my_model"),
        ("2 words", "m2_words_model"),
        ("int", "int_model"),
        ("__x__", "x_model"),
        ("Übung/..", "ubung_model"),
        ("心电", "m01234567_model"),
        ("x" * 32, "x" * 32 + "_model"),
        ("*/ ${A} \n #", "a_model"),
    ],
)
def test_names(name: str, made: str) -> None:
    assert identifier(name, DIGEST) == made


@given(st.text())
def test_any_name_is_one_word_of_every_language(name: str) -> None:
    made = identifier(name, DIGEST)
    assert re.fullmatch(r"([a-z][a-z0-9]*_([a-z0-9]+_)*)?model", made)
    assert len(made) <= 48


@given(st.text())
def test_any_text_is_one_string_of_c(text: str) -> None:
    """Octal escapes are Python's, too."""
    literal = c_string(text)
    assert re.fullmatch(r'"([ !#->@-\[\]-~]|\\[0-7]{3})*"', literal)
    assert ast.literal_eval("b" + literal) == text.encode()


def test_a_lone_surrogate_is_text_too() -> None:
    assert c_string("\ud800") == r'"\134ud800"'


@given(st.floats(width=32, min_value=2.0**-126, max_value=2.0**127))
def test_scales_keep_their_bits(value: float) -> None:
    import numpy as np

    literal = c_float(value)
    assert re.fullmatch(r"[0-9.e+-]*[.e][0-9.e+-]*f", literal)
    assert np.float32(literal[:-1]) == np.float32(value)


def test_what_stands_in_a_value_is_not_filled_in_again() -> None:
    assert filled("@a@ @b@", {"a": "@b@", "b": "@a@"}) == "@b@ @a@"
    with pytest.raises(KeyError):
        filled("@nothing@", {})


def test_a_kind_is_a_folder_of_templates() -> None:
    assert {path.name for path in TEMPLATES.iterdir() if path.is_dir()} == {*KINDS, "src"}


def test_sources_are_the_firmwares_but_for_their_own_name() -> None:
    for path in [*(firmware_dir() / FOLDER).iterdir(), firmware_dir() / "engine/engine.h"]:
        text = path.read_text()
        mine = own(text, "x_model")
        assert "namespace edgeward" not in mine.replace("namespace edgeward_x_model", "")
        used = text.replace("namespace edgeward::", "")
        assert "edgeward::" not in used, "a name that would have to be changed as well"
        assert mine.replace("edgeward_x_model", "edgeward").replace('"x_model/engine/', '"engine/') == text


def test_every_kernel_is_found() -> None:
    where = kernels(firmware_dir())
    assert set(where) >= set(kinds())
    files = {f"{FOLDER}/{path.name}" for path in (firmware_dir() / FOLDER).glob("*.cpp")}
    assert files - {where[kind] for kind in kinds()} == {f"{FOLDER}/{name}" for name in ALWAYS}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tflite_micro", reason="a bundle is run by the tflite-micro wheel first")
    folder = tmp_path_factory.mktemp("written") / "bundle"
    write_bundle(folder, tflite=dense(), name=NAMES["dense"], labels=LABELS)
    return folder


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "bundle"))


def test_only_kernels_that_the_model_uses(bundle: Path) -> None:
    files = library_of(bundle, "cmake").files
    found = {Path(path).name for path in files if path.endswith(".cpp")}
    own_files = {"data.cpp", "functions.cpp", "self_test.cpp", "absent.cpp"}
    assert found == {*ALWAYS, "conv.cpp", "softmax.cpp"} | own_files
    absent = next(text for path, text in files.items() if path.endswith("absent.cpp")).decode()
    assert set(re.findall(r"void (\w+)\(", absent)) == set(kinds()) - {"conv", "softmax"}


def test_the_same_bundle_gives_the_same_bytes_of_every_kind(bundle: Path) -> None:
    for kind in KINDS:
        one, two = library_of(bundle, kind), library_of(bundle, kind)
        assert one == two
        assert one.files["LICENSE"] == (Path(__file__).parents[2] / "LICENSE").read_bytes()
        unfilled = {Path(path).name for path, content in one.files.items() if re.search(rb"@\w+@", content)}
        texts_of_the_bundle = {"README.md", "functions.cpp", f"{one.name}.h"}  # in which @name@ occurs
        assert unfilled == texts_of_the_bundle


HOSTILE = ('"); system("x', "*/ #error", "\\", "??/", "a\nb", "\x00c", "\u202e\u2028", "```", "@digest@", "${A}", "%n")

PAYLOADS = ("system(", "#error", "# heading")


def test_texts_of_a_manifest_stay_texts(bundle: Path) -> None:
    """Of one that anybody wrote, with every digest right. The compilers see some of this in test_library_builds.py."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest["manifest_sha256"]
    features = [{"name": HOSTILE[n % 11], "mean": 0.0, "std": 1.0, "unit": "*/\n# x"} for n in range(30)]
    for number in range(0, 10, 5):
        labels = list(HOSTILE[number : number + 5])
        forged: Dict[str, Any] = {**manifest, "labels": labels, "created_by": 'x"\n*/ #error', "features": features}
        forged["origin"] = {**manifest["origin"], "output": "y\n\n```\n# heading"}
        (bundle / MANIFEST).write_bytes(dump_manifest(forged))
        for kind in KINDS:
            for path, content in library_of(bundle, kind).files.items():
                text = content.decode()
                if path == "README.md":
                    lines = [line for line in text.splitlines() if any(word in line for word in PAYLOADS)]
                    assert lines
                    assert all(line.startswith("    ") for line in lines)
                    assert not {"\x00", "\u202e", "\u2028"} & set(text)
                elif path.endswith("functions.cpp"):
                    before, table = text.split("_labels[5] = {\n")
                    listed = table.splitlines()[:5]
                    assert [ast.literal_eval("b" + line.strip(" ,")) for line in listed] == [x.encode() for x in labels]
                    assert not [word for word in PAYLOADS if word in before]
                else:
                    assert not [word for word in (*PAYLOADS, "\x00", "\u202e") if word in text], path


REFUSED: List[Any] = [
    (["--labels", "a,b"], 2, "--labels: is for a model that is exported; the bundle"),
    (["--representative", "x.npy"], 2, "--representative: is for"),
    (["--no-softmax"], 2, "--no-softmax: is for"),
    (["--audio", "micro-wake-word"], 2, "--audio: is for"),
    (["--name", 'a"b'], 2, '--name a"b: model name'),
    (["--engine", "tflm"], 2, "--engine tflm: a library of --as has engine/direct"),
    (["--out", "file"], 2, "--out file: file is a file; name a folder"),
    (["--out", "full"], 2, "--out full: is a folder with other files in it; name a new or an empty folder"),
]


@pytest.mark.parametrize(("words", "code", "said"), REFUSED, ids=lambda case: str(case)[:30])
def test_what_makes_no_sense(
    bundle: Path, words: List[str], code: int, said: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(bundle.parent)
    Path("file").touch()
    Path("full").mkdir()
    Path("full/mine").write_text("mine")
    before = sorted(bundle.parent.rglob("*"))
    assert main(["model", "export", "bundle", "--as", "cmake", "--out", "lib", *words]) == code
    assert capsys.readouterr().err.startswith(f"edgeward: {said}")
    assert sorted(bundle.parent.rglob("*")) == before


def test_models_it_does_not_take(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    pytest.importorskip("tflite_micro", reason="a bundle is run by the tflite-micro wheel first")
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "absolute", tflite=one_op("ABS", Edge(0.1, 0), Edge(0.1, 0)), name="absolute")
    trees = random_trees(1)
    features = [{"name": f"x{i}", "cuts": [float(cut) for cut in range(254)]} for i in range(trees.channels)]
    write_trees_bundle(tmp_path / "trees", model=trees, name="trees", of="forest", features=features)
    (tmp_path / "empty").mkdir()
    export = ["model", "export", "--as", "arduino", "--out", "lib"]
    assert main([*export, "empty"]) == 2
    assert "empty: holds no manifest.json, so it is no bundle" in capsys.readouterr().err
    assert main([*export, "nowhere.tflite"]) == 2
    assert "nowhere.tflite: there is no such file" in capsys.readouterr().err
    (tmp_path / "m.tflite").write_bytes(one_op("ABS", Edge(0.1, 0), Edge(0.1, 0)))
    for absolute in ("absolute", "m.tflite"):
        assert main([*export, absolute]) == 2
        said = f"{absolute}: a library has engine/direct, which cannot run this model: operator 0 is ABS, which engine/direct"
        assert said in capsys.readouterr().err
    (tmp_path / "result.json").write_text("{}")
    for of_trees in ("result.json", ".", "trees"):
        assert main([*export, of_trees]) == 2
        assert "--as writes no library of trees: model_trees.h in their bundle is one" in capsys.readouterr().err
    assert not (tmp_path / "lib").exists()


def test_from_a_file_as_from_its_bundle(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    pytest.importorskip("tflite_micro", reason="a bundle is run by the tflite-micro wheel first")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.tflite").write_bytes(library_models()["streaming"])
    assert main(["model", "export", "m.tflite", "--name", "wake", "--out", "b"]) == 0
    Path("two").mkdir()
    for model, out in ((["m.tflite", "--name", "wake"], "one"), (["b"], "two")):
        assert main(["model", "export", *model, "--as", "cmake", "--out", out]) == 0
        assert f"{out}: wake_model, a CMake project of model " in capsys.readouterr().out
    one, two = (
        {path.relative_to(out): path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
        for out in ("one", "two")
    )
    assert one == two
    assert b"#define WAKE_MODEL_STATE_BYTES 32 " in one[Path("src/wake_model.h")]
    assert main(["model", "export", "b", "--as", "cmake", "--name", "other", "--out", "three", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["header"], report["kind"]) == ("other_model", "other_model.h", "cmake")
    assert sorted(os.listdir("three")) == ["CMakeLists.txt", "LICENSE", "README.md", "example", "src"]
    assert '#define OTHER_MODEL_NAME "wake"\n' in Path("three/src/other_model.h").read_text()


def test_a_damaged_bundle(bundle: Path, capsys: Any) -> None:
    content = bytearray((bundle / "model.tflite").read_bytes())
    content[-1] ^= 1
    (bundle / "model.tflite").write_bytes(content)
    assert main(["model", "export", str(bundle), "--as", "zephyr", "--out", str(bundle.parent / "lib")]) == 2
    assert "model.tflite: SHA-256 is" in capsys.readouterr().err
    assert not (bundle.parent / "lib").exists()


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path, empty: bool, monkeypatch: Any) -> None:
    out = tmp_path / "out"
    if empty:
        out.mkdir()
    files = {"a": b"1", "b/c": b"2"}
    before = sorted(tmp_path.rglob("*"))
    renamed = os.rename

    def full(self: Path, target: Any) -> None:
        if self.name in ("b", *(name.name for name in tmp_path.glob(".out.*"))):
            raise OSError(28, "No space left on device")
        renamed(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="No space") as raised:
            new_folder(out, files)
    assert raised.value.filename == str(out)
    assert sorted(tmp_path.rglob("*")) == before
    new_folder(out, files)
    assert [(out / path).read_bytes() for path in files] == [*files.values()]
    assert sorted(os.listdir(out)) == ["a", "b"]
    with pytest.raises(FileExistsError):
        new_folder(out, files)
