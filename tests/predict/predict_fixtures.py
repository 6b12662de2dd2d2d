"""The bundles these tests share, made once."""

from pathlib import Path

import known_bundles
import pytest


@pytest.fixture(scope="session")
def known_table(tmp_path_factory: pytest.TempPathFactory) -> known_bundles.Known:
    return known_bundles.table_bundle(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="session")
def signal_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return known_bundles.signal_bundle(tmp_path_factory.mktemp("signal"))
