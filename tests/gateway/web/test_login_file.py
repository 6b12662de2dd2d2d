"""What may stand in the place of the login file: none of it opens a page, or holds one up."""

import json
import os
from pathlib import Path
from typing import Callable, Dict

import pytest
from dashboards import PASSWORD, dashboard, make_store

from orchestrator.errors import EdgewardError
from orchestrator.gateway.web.password import FILE_NAME, Login


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "not mounted" / FILE_NAME)


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def a_large_file(path: Path) -> None:
    path.write_text(json.dumps({"password": "x" * (1 << 20)}))


def an_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD: Dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (a_pipe, a_folder, a_link_to_nothing, a_link_to_itself, a_large_file, an_endless_device)
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_login_file_lets_nobody_in(tmp_path: Path, kind: str) -> None:
    ODD[kind](tmp_path / FILE_NAME)
    login = Login(tmp_path)
    assert login.needed
    assert login.key == b""
    with pytest.raises(EdgewardError, match=f"{FILE_NAME}: .*remove it"):
        login.configured  # noqa: B018 - asked for what it raises


def test_pages_go_on_answering(tmp_path: Path) -> None:
    make_store(tmp_path)
    Login(tmp_path).set_password(PASSWORD)
    file = tmp_path / FILE_NAME
    kept = file.read_bytes()
    with dashboard(tmp_path) as (client, _):
        for kind in ("a_pipe", "a_link_to_itself"):
            file.unlink()
            ODD[kind](file)
            assert client.ask("/api/runs")[0] == 503
            assert client.ask("/healthz")[0] == 200
        file.unlink()
        file.write_bytes(kept)
        assert client.log_in(PASSWORD)[0] == 200
        assert client.ask("/api/runs")[0] == 200


def test_a_link_to_a_login_file_is_one(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    Login(elsewhere).set_password(PASSWORD)
    (tmp_path / FILE_NAME).symlink_to(elsewhere / FILE_NAME)
    assert Login(tmp_path).accepts(PASSWORD)
