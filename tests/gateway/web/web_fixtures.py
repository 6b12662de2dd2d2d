"""A browser and a dashboard that all tests of pages share: starting either takes longer than most of these tests."""

import os
from typing import Iterator

import pytest
from chromium import Browser, find_chromium
from remembered import accountant_remembered
from stage import Stage


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    find_chromium()
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def stage(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    kept = tmp_path_factory.getbasetemp()
    kept = (kept.parent if "PYTEST_XDIST_WORKER" in os.environ else kept) / "accountant"
    kept.mkdir(exist_ok=True)
    shared = Stage(tmp_path_factory.mktemp("stage"), chromium, kept)
    yield shared
    shared.close()


@pytest.fixture
def remembering(stage: Stage) -> Iterator[None]:
    with accountant_remembered(stage.kept):
        yield
