"""`edgeward model export --as KIND`, built by compilers for three processors and run: the bits of the tflite-micro wheel."""

import re
import shutil
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import pytest
from library_builds import CORTEX_M3, CXX, RV32, STRICT, Machine, promised, run, run_examples, sources
from library_models import LABELS, NAMES, library_models
from once import filled_once

from model_export.bundle import write_bundle
from model_export.model_bin import parse_model_bin
from orchestrator.boards.library.kinds import KINDS
from orchestrator.cli.main import main

Tflm = Callable[[bytes, np.ndarray], np.ndarray]
needs_cmake = pytest.mark.skipif(
    shutil.which("cmake") is None, reason="cmake not installed (Debian: apt-get install cmake)"
)
MODELS = tuple(NAMES)
LIBRARY = {"dense": "home_n_name_model", "conv": "signal_model", "streaming": "wake_word_2_model"}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below it bundles, MODEL/bundle, and libraries, MODEL/KIND."""
    pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle")

    def write(folder: Path) -> None:
        for model, tflite in library_models().items():
            bundle = folder / model / "bundle"
            labels = LABELS if model == "dense" else None
            write_bundle(bundle, tflite=tflite, name=NAMES[model], labels=labels)
            for kind in KINDS:
                assert main(["model", "export", str(bundle), "--as", kind, "--out", str(folder / model / kind)]) == 0

    return filled_once(tmp_path_factory, "libraries", write)


@pytest.fixture(scope="module")
def built(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """The build folder of each cmake project."""
    folders = {}
    for model in MODELS:
        folders[model] = tmp_path_factory.mktemp("built")
        flags = [f"-DCMAKE_CXX_FLAGS={' '.join(STRICT)} -pedantic -std=c++17", f"-DCMAKE_C_FLAGS={' '.join(STRICT)}"]
        run(["cmake", "-S", libraries / model / "cmake", "-B", folders[model], *flags])
        run(["cmake", "--build", folders[model]])
    return folders


@needs_cmake
@pytest.mark.parametrize("model", MODELS)
def test_the_example_prints_what_the_readme_says(
    libraries: Path, built: Dict[str, Path], tflm: Tflm, model: str
) -> None:
    printed = run([built[model] / f"{LIBRARY[model]}_example"]).decode()
    assert printed == promised(libraries / model / "cmake")
    packed = parse_model_bin((libraries / model / "bundle/model.bin").read_bytes())
    assert packed.known_answers is not None
    want = tflm(packed.tflite, packed.known_answers.inputs)
    rows = re.findall(r"^row \d+:((?: -?\d+)+)", printed, re.MULTILINE)
    assert [[int(word) for word in row.split()] for row in rows] == [list(row[:32]) for row in want.tolist()]
    assert f"self test: 0 of {len(want)} rows differ\n" in printed


ROWS_C = """
#include <stdio.h>
#include <string.h>
@includes@
static uint8_t memory[4096] __attribute__((aligned(16)));
static signed char row[4096];
static float values[64];

#define RUN(NAME, UPPER) \\
  if (strcmp(argv[1], #NAME) == 0) { \\
    if (NAME##_invoke() != UPPER##_NOT_READY || NAME##_input().data != NULL) return 2; \\
    if (NAME##_init(memory + 4, UPPER##_ARENA_BYTES) != UPPER##_BAD_ARENA) return 3; \\
    if (NAME##_init(memory, UPPER##_ARENA_BYTES - 1) != UPPER##_BAD_ARENA) return 4; \\
    if (NAME##_init(memory, UPPER##_ARENA_BYTES) != UPPER##_OK) return 5; \\
    if (NAME##_input().scale != UPPER##_INPUT_SCALE || NAME##_output().scale != UPPER##_OUTPUT_SCALE) return 6; \\
    if (NAME##_input().zero_point != UPPER##_INPUT_ZERO_POINT || NAME##_input().bytes != UPPER##_INPUT_BYTES) return 7; \\
    if (NAME##_output().zero_point != UPPER##_OUTPUT_ZERO_POINT || NAME##_output().bytes != UPPER##_OUTPUT_BYTES) return 8; \\
    if (NAME##_known_input(UPPER##_KNOWN_ANSWERS) != NULL) return 9; \\
    while (fread(row, 1, UPPER##_INPUT_BYTES, stdin) == UPPER##_INPUT_BYTES) { \\
      memcpy(NAME##_input().data, row, UPPER##_INPUT_BYTES); \\
      if (NAME##_invoke() != UPPER##_OK) return 10; \\
      fwrite(NAME##_output().data, 1, UPPER##_OUTPUT_BYTES, stdout); \\
    } \\
    if (NAME##_self_test() != 0 || NAME##_self_test() != 0) return 11; \\
    memset(memory, 0x55, UPPER##_ARENA_BYTES); \\
    if (NAME##_reset() != UPPER##_OK) return 12; \\
    memcpy(NAME##_input().data, NAME##_known_input(0), UPPER##_INPUT_BYTES); \\
    if (NAME##_invoke() != UPPER##_OK) return 13; \\
    if (memcmp(NAME##_output().data, NAME##_known_output(0), UPPER##_OUTPUT_BYTES) != 0) return 14; \\
    return 0; \\
  }

int main(int argc, char **argv) {
  if (argc == 3) {
    const size_t count = fread(values, sizeof values[0], 64, stdin);
    for (size_t i = 0; i < count; ++i) putchar(dense_quantize(values[i]));
    return 0;
  }
@runs@
  return 1;
}
"""


@needs_cmake
def test_three_libraries_in_one_program_on_many_rows(
    libraries: Path, built: Dict[str, Path], tflm: Tflm, make_rows: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """In C: the header is one of C, and libraries do not meet."""
    names = [LIBRARY[model] for model in MODELS]
    text = ROWS_C.replace("@includes@", "\n".join(f'#include "{name}.h"' for name in names))
    text = text.replace("@runs@", "\n".join(f"  RUN({name}, {name.upper()})" for name in names))
    (tmp_path / "rows.c").write_text(text.replace("dense_quantize", f"{LIBRARY['dense']}_quantize"))
    includes = [f"-I{libraries / model / 'cmake/src'}" for model in MODELS]
    archives = [built[model] / f"lib{LIBRARY[model]}.a" for model in MODELS]
    run(["gcc", "-std=c11", "-pedantic", *STRICT, *includes, "-c", "rows.c"], tmp_path)
    run(["g++", "rows.o", *archives, "-o", "rows"], tmp_path)
    for model, tflite in library_models().items():
        rows = make_rows(tflite, 40)
        want = tflm(tflite, rows)
        got = np.frombuffer(run([tmp_path / "rows", LIBRARY[model]], stdin=rows.tobytes()), np.int8)
        assert (got.reshape(want.shape) == want).all(), model
        assert len(np.unique(want)) > 10
    steps = np.array([-1e9, -512.5, -121, -2.5, -1.5, -0.5, 0, 0.5, 1.5, 2.5, 3.49, 134.5, 1e9, np.inf, -np.inf])
    values = (steps * 0.05).astype(np.float32)
    rounded = np.clip(np.rint(values / np.float32(0.05)) - 7, -128, 127).astype(np.int8)
    assert run([tmp_path / "rows", "q", "q"], stdin=values.tobytes()) == rounded.tobytes()


@needs_cmake
def test_an_installed_library_is_found_by_another_project(
    libraries: Path, built: Dict[str, Path], tmp_path: Path
) -> None:
    name = LIBRARY["dense"]
    run(["cmake", "--install", built["dense"], "--prefix", tmp_path / "there"])
    shutil.copy(libraries / "dense/cmake/example/main.c", tmp_path)
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.13)\nproject(other LANGUAGES C CXX)\nfind_package({name} CONFIG REQUIRED)\n"
        f"add_executable(other main.c)\nset_target_properties(other PROPERTIES LINKER_LANGUAGE CXX)\n"
        f"target_link_libraries(other PRIVATE {name}::{name})\n"
    )
    run(["cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={tmp_path / 'there'}"])
    run(["cmake", "--build", tmp_path / "b"])
    assert run([tmp_path / "b/other"]).decode() == promised(libraries / "dense/cmake")


@pytest.mark.parametrize("machine", [RV32, CORTEX_M3], ids=["rv32imc", "cortex-m3"])
def test_other_processors_print_the_same(libraries: Path, machine: Machine, tmp_path: Path) -> None:
    problem = machine.missing()
    if problem is not None:
        pytest.skip(problem)
    folders = [libraries / model / "cmake" for model in MODELS]
    said = run_examples(machine, folders, [LIBRARY[model] for model in MODELS], tmp_path)
    assert said == "".join(promised(folder) for folder in folders)


ARDUINO_H = """
#pragma once
#include <cstdio>
#include <cstdlib>
struct Console {
  void begin(long) {}
  explicit operator bool() const { return true; }
  void print(const char* text) { std::fputs(text, stdout); }
  void print(int number) { std::printf("%d", number); }
  void print(unsigned long number) { std::printf("%lu", number); }
  void println(const char* text = "") { std::puts(text); }
};
static Console Serial;
inline unsigned long millis() { return 0; }
inline void delay(unsigned long) { std::exit(0); }
"""


@pytest.mark.parametrize("model", MODELS)
def test_the_arduino_sketch(libraries: Path, model: str, tmp_path: Path) -> None:
    """As its builder does it: every source below src/, with src/ as include path; the sketch as C++ with Arduino.h before it."""
    library, name = libraries / model / "arduino", LIBRARY[model]
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    sketch = library / "examples" / name / f"{name}.ino"
    run(["g++", *CXX, *STRICT, "-O0", f"-I{library / 'src'}", "-c", *sources(library)], tmp_path)
    sketch_of = ["-x", "c++", "-include", "Arduino.h", "-I.", f"-I{library / 'src'}", "-c", sketch, "-o", "sketch.o"]
    run(["g++", *CXX, *STRICT, *sketch_of], tmp_path)
    (tmp_path / "main.cpp").write_text("void setup();\nvoid loop();\nint main() {\n  setup();\n  loop();\n}\n")
    run(["g++", "main.cpp", *sorted(tmp_path.glob("*.o")), "-o", "sketch"], tmp_path)
    assert run([tmp_path / "sketch"]).decode() == promised(library)
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"} <= {
        *properties
    }
    assert (properties["name"], properties["includes"]) == (name, f"{name}.h")


@pytest.mark.parametrize("standard", ["gnu++14", "gnu++20"])
def test_other_standards_compile_it(libraries: Path, standard: str, tmp_path: Path) -> None:
    """gnu++14 is the oldest that an Arduino core is known to compile it with."""
    library = libraries / "streaming/arduino"
    run(["g++", f"-std={standard}", *STRICT, "-fsyntax-only", f"-I{library / 'src'}", *sources(library)], tmp_path)


STUBS = """
set(listed "")
function(idf_component_register)
  cmake_parse_arguments(GIVEN "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  message("unknown ${GIVEN_UNPARSED_ARGUMENTS}")
  message("sources ${GIVEN_SRCS}")
  message("includes ${GIVEN_INCLUDE_DIRS}")
endfunction()
function(zephyr_library_named NAME)
  message("library ${NAME}")
endfunction()
function(zephyr_library_sources)
  message("sources ${ARGN}")
endfunction()
function(zephyr_include_directories)
  message("includes ${ARGN}")
endfunction()
function(target_compile_features)
endfunction()
function(target_sources TARGET SCOPE)
  message("sources ${ARGN}")
endfunction()
function(find_package NAME)
  message("package ${NAME}")
endfunction()
function(project NAME)
  message("project ${NAME}")
endfunction()
"""


def said_by_cmake(file: Path, work: Path, *variables: str) -> Dict[str, List[str]]:
    """What a CMakeLists.txt asks of the functions of its tool, which are not at hand."""
    tool = work / "idf/tools/cmake/project.cmake"
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text('message("idf")\n')
    script = work / "script.cmake"
    script.write_text(f'set(ENV{{IDF_PATH}} "{work / "idf"}")\n{STUBS}\ninclude("{file}")\n')
    said = run(["sh", "-c", 'exec 2>&1 && exec cmake "$@"', "sh", *(f"-D{v}" for v in variables), "-P", script])
    found: Dict[str, List[str]] = {}
    for line in said.decode().splitlines():
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).extend(part for part in rest.split(";") if part)
    return found


@needs_cmake
@pytest.mark.parametrize("model", MODELS)
def test_what_esp_idf_and_zephyr_are_given(libraries: Path, model: str, tmp_path: Path) -> None:
    """Neither toolchain has built it here: what can be said without them is that every source is listed, and is there."""
    name = LIBRARY[model]
    for kind, option in (("espidf", "X=1"), ("zephyr", f"CONFIG_{name.upper()}=y")):
        library = libraries / model / kind
        said = said_by_cmake(library / "CMakeLists.txt", tmp_path, option)
        assert sorted(said["sources"]) == [path.relative_to(library).as_posix() for path in sources(library)]
        assert said["includes"] == ["src"]
        assert not said.get("unknown")
    example = libraries / model / "espidf/examples" / name
    assert "idf" in said_by_cmake(example / "CMakeLists.txt", tmp_path)
    main_said = said_by_cmake(example / "main/CMakeLists.txt", tmp_path)
    assert [(example / "main" / path).is_file() for path in main_said["sources"]] == [True]
    module, sample = libraries / model / "zephyr", libraries / model / "zephyr/samples" / name
    assert not said_by_cmake(module / "CMakeLists.txt", tmp_path).get("sources"), "where Kconfig does not ask for it"
    sample_said = said_by_cmake(sample / "CMakeLists.txt", tmp_path)
    assert sample_said["package"] == ["Zephyr"]
    assert [(sample / path).is_file() for path in sample_said["sources"]] == [True]
    assert f"CONFIG_{name.upper()}=y\n" in (sample / "prj.conf").read_text()
    assert f"config {name.upper()}\n" in (module / "Kconfig").read_text()
    yaml = pytest.importorskip("yaml", reason="no YAML reader; it comes with the gateway's own broker")
    settings = yaml.safe_load((module / "zephyr/module.yml").read_text())
    assert all((module / settings["build"][key]).exists() for key in ("cmake", "kconfig"))
    assert (settings["name"], [(module / path).is_dir() for path in settings["samples"]]) == (name, [True])
    (pattern,) = yaml.safe_load((sample / "sample.yaml").read_text())["tests"][f"sample.{name}"]["harness_config"][
        "regex"
    ]
    assert re.search(pattern, promised(module))
    component = yaml.safe_load((libraries / model / "espidf/idf_component.yml").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", component["version"])
