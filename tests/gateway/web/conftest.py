"""A browser and a dashboard that all tests of pages share: starting either takes longer than most of these tests."""

from typing import Iterator

import pytest
from chromium import Browser, find_chromium
from stage import Stage


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    find_chromium()
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def stage(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    shared = Stage(tmp_path_factory.mktemp("stage"), chromium)
    yield shared
    shared.close()
