"""Cookies of other programs on the same host: a browser keeps one set of them for all its ports."""

import http.client
import json
from pathlib import Path
from typing import Dict, List

import pytest
from dashboards import PASSWORD, Client, dashboard, make_store

from orchestrator.gateway.web.password import Login

FOREIGN = [
    'x={"a": 1}',
    "a[b]=1",
    "a@b=1",
    "flag",
    "=nameless",
    'open="never closed',
    "path=/",
    "expires=1",
    "a=b c",
    "n\xe4me=\xff",
    "x=" + "y" * 8000,
    "; ;;",
]
"""What other programs set, and Python's http.cookies reads no further after."""


def cookies_of_login(client: Client) -> Dict[str, str]:
    link = http.client.HTTPConnection(client.host, client.port, timeout=600)
    body = json.dumps({"password": PASSWORD})
    link.request("POST", "/api/login", body, {"Content-Type": "application/json"})
    answer = link.getresponse()
    assert answer.status == 200
    pairs: List[List[str]] = [v.split(";")[0].split("=", 1) for k, v in answer.getheaders() if k == "set-cookie"]
    link.close()
    return {name: value for name, value in pairs}


def test_cookies_of_others_log_nobody_out(tmp_path: Path) -> None:
    make_store(tmp_path)
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path) as (client, _):
        held = cookies_of_login(client)
        ours = "; ".join(f"{name}={value}" for name, value in held.items())
        session = min(held, key=len)
        wrong = f"{session}=of-another-program"
        for foreign in (*FOREIGN, wrong):
            for cookies in (f"{foreign}; {ours}", f"{ours}; {foreign}"):
                status, _, text = client.ask("/api/runs", Cookie=cookies)
                assert status == 200, (foreign, text)
            assert client.ask("/api/runs", Cookie=foreign)[0] == 401, foreign
        # To log out ends what is there, whatever else is.
        headers = {"Content_Type": "application/json", "Cookie": f"{FOREIGN[0]}; {wrong}; {ours}"}
        assert client.ask("/api/logout", "POST", "{}", **headers)[0] == 200
        assert client.ask("/api/runs", Cookie=ours)[0] == 401


def test_two_dashboards_of_one_host_leave_each_other_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make_store(tmp_path / name)
        Login(tmp_path / name).set_password(PASSWORD)
    with dashboard(tmp_path / "a") as (first, _), dashboard(tmp_path / "b") as (second, _):
        jar = cookies_of_login(first)
        jar.update(cookies_of_login(second))  # as a browser does, which knows no ports
        both = "; ".join(f"{name}={value}" for name, value in jar.items())
        assert [client.ask("/api/runs", Cookie=both)[0] for client in (first, second)] == [200, 200]
        headers = {"Content_Type": "application/json", "Cookie": both}
        assert second.ask("/api/logout", "POST", "{}", **headers)[0] == 200
        assert [client.ask("/api/runs", Cookie=both)[0] for client in (first, second)] == [200, 401]


@pytest.mark.parametrize("tls", [False, True])
def test_names_differ_by_password_only(tmp_path: Path, tls: bool) -> None:
    from orchestrator.gateway.web.guard import browser_name, cookie_name
    from orchestrator.gateway.web.settings import WebSettings

    file = tmp_path / "x.pem" if tls else None
    settings = WebSettings("127.0.0.1", 0, file, file)
    names = {of(settings, key) for of in (cookie_name, browser_name) for key in (b"a" * 32, b"b" * 32)}
    assert len(names) == 4
    assert all(name.startswith("__Host-edgeward-" if tls else "edgeward-") for name in names)
    assert cookie_name(settings, b"a" * 32) == cookie_name(settings, b"a" * 32)
