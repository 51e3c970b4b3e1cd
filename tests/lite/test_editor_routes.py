"""What the graph editor asks of a server beside running prompts: settings, saved workflows, templates, models.

tests/host runs the same against a real ComfyUI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.hosts import RunningHost, running_lite
from tests.support.places import ROOT

NO_EDITOR = "the graph editor's package is not installed (comfyui-frontend-package)"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    pytest.importorskip("comfyui_frontend_package", reason=NO_EDITOR)
    base = tmp_path_factory.mktemp("editor")
    with running_lite(base, "--editor", "--user", str(base / "user")) as host:
        yield host


@pytest.fixture
def api(host: RunningHost) -> str:
    return host.url + "/api"


def test_the_page_is_the_editor(host: RunningHost) -> None:
    page = requests.get(host.url, timeout=10)
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Cache-Control"] in ("no-store, must-revalidate", "no-cache")  # no-cache before ComfyUI 0.33
    script = page.text.partition('src="./')[2].partition('"')[0] or page.text.partition('src="')[2].partition('"')[0]
    answer = requests.get(f"{host.url}/{script}", timeout=10)
    assert answer.status_code == 200
    assert "javascript" in answer.headers["Content-Type"]


def test_settings_are_kept(api: str) -> None:
    assert requests.post(f"{api}/settings", json={"a.b": 1, "c": "x"}, timeout=10).status_code == 200
    assert requests.post(f"{api}/settings/a.b", json={"of": [2]}, timeout=10).status_code == 200
    settings = requests.get(f"{api}/settings", timeout=10).json()
    assert settings["a.b"] == {"of": [2]}
    assert settings["c"] == "x"
    assert requests.get(f"{api}/settings/c", timeout=10).json() == "x"
    assert requests.get(f"{api}/settings/unknown", timeout=10).json() is None


def test_workflows_are_saved_listed_moved_and_deleted(api: str) -> None:
    def names(folder: str) -> list[str]:
        found = requests.get(
            f"{api}/userdata", params={"dir": folder, "recurse": "true", "full_info": "true"}, timeout=10
        )
        return sorted(file["path"] for file in found.json())

    one = f"{api}/userdata/workflows%2Fdeep%2Fone.json"
    assert requests.get(one, timeout=10).status_code == 404
    assert requests.post(one, data=b'{"nodes": []}', timeout=10).json() == "workflows/deep/one.json"
    told = requests.post(one, params={"full_info": "true"}, data=b'{"nodes": [1]}', timeout=10).json()
    assert (told["path"], told["size"]) == ("workflows/deep/one.json", 14)
    assert requests.post(one, params={"overwrite": "false"}, data=b"other", timeout=10).status_code == 409
    assert requests.get(one, timeout=10).json() == {"nodes": [1]}
    assert names("workflows") == ["deep/one.json"]

    moved = requests.post(f"{one}/move/workflows%2Ftwo.json", timeout=10)
    assert moved.json() == "workflows/two.json"
    assert requests.get(one, timeout=10).status_code == 404
    assert names("workflows") == ["two.json"]
    split = requests.get(f"{api}/userdata", params={"dir": "workflows", "split": "true"}, timeout=10).json()
    assert split == [["two.json", "two.json"]]
    tree = requests.get(f"{api}/v2/userdata", params={"path": "workflows"}, timeout=10).json()
    assert [(entry["type"], entry["path"]) for entry in tree] == [
        ("directory", "workflows/deep"),
        ("file", "workflows/two.json"),
    ]

    two = f"{api}/userdata/workflows%2Ftwo.json"
    assert requests.delete(two, timeout=10).status_code == 204
    assert requests.delete(two, timeout=10).status_code == 404
    assert names("workflows") == []


@pytest.mark.parametrize("name", ["..%2F..%2Foutside.json", "%2Fetc%2Fpasswd", "workflows%2F..%2F..%2Foutside.json"])
def test_no_name_leads_out_of_the_users_folder(api: str, name: str) -> None:
    assert requests.post(f"{api}/userdata/{name}", data=b"x", timeout=10).status_code == 403
    assert requests.get(f"{api}/userdata/{name}", timeout=10).status_code == 403
    assert requests.delete(f"{api}/userdata/{name}", timeout=10).status_code == 403


def test_lists_that_are_asked_for_wrongly(api: str) -> None:
    assert requests.get(f"{api}/userdata", timeout=10).status_code == 400
    assert requests.get(f"{api}/userdata", params={"dir": "not there"}, timeout=10).status_code == 404


def test_templates_come_with_their_pictures(host: RunningHost, api: str) -> None:
    templates = requests.get(f"{api}/workflow_templates", timeout=10).json()
    (pack,) = (name for name, files in templates.items() if "kandinsky22_pocket_mix" in files)
    for name in templates[pack]:
        workflow = requests.get(f"{api}/workflow_templates/{pack}/{name}.json", timeout=10)
        assert workflow.json()["extra"]["kandiflux"]["title"]
        picture = requests.get(f"{api}/workflow_templates/{pack}/{name}.jpg", timeout=10)
        assert picture.headers["Content-Type"] == "image/jpeg"
        assert picture.content == (ROOT / "workflows" / f"{name}.jpg").read_bytes()
    assert requests.get(f"{api}/workflow_templates/{pack}/..%2Fpyproject.toml", timeout=10).status_code >= 400


def test_models_are_listed_with_where_they_lie(host: RunningHost, api: str) -> None:
    folder = host.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fox.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    folders = requests.get(f"{api}/experiment/models", timeout=10).json()
    (loras,) = (entry["folders"] for entry in folders if entry["name"] == "loras")
    assert str(folder) in loras
    (fox,) = requests.get(f"{api}/experiment/models/loras", timeout=10).json()
    assert (fox["name"], loras[fox["pathIndex"]], fox["size"]) == ("fox.safetensors", str(folder), 10)
    assert requests.get(f"{api}/experiment/models/unheard_of", timeout=10).status_code == 404
    assert str(folder) in requests.get(f"{host.url}/internal/folder_paths", timeout=10).json()["loras"]
    unknown = requests.get(f"{api}/view_metadata/loras", params={"filename": "fox.safetensors"}, timeout=10)
    assert unknown.status_code == 404


def test_translations_and_scripts_are_answered(api: str) -> None:
    assert isinstance(requests.get(f"{api}/i18n", timeout=10).json(), dict)
    assert isinstance(requests.get(f"{api}/extensions", timeout=10).json(), list)


def test_logs(host: RunningHost) -> None:
    raw = requests.get(f"{host.url}/internal/logs/raw", timeout=10).json()
    assert raw["entries"]
    assert {"t", "m"} <= raw["entries"][0].keys()
    body = {"clientId": "someone", "enabled": True}
    assert requests.patch(f"{host.url}/internal/logs/subscribe", json=body, timeout=10).status_code == 200
    assert requests.patch(f"{host.url}/internal/logs/subscribe", json=body | {"enabled": False}, timeout=10).ok


def test_only_what_can_run_here_is_a_template(host: RunningHost, api: str) -> None:
    known = requests.get(f"{api}/object_info", timeout=10).json()
    templates = requests.get(f"{api}/workflow_templates", timeout=10).json()["kandiflux"]
    if "KSampler" not in known:
        assert "flux_dev" not in templates
        assert "kandinsky22_ksampler" not in templates
    assert "kandinsky22_text_to_image" in templates


def test_a_picture_to_begin_with_is_there(host: RunningHost) -> None:
    assert (host.input / "example.png").is_file()


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['comfyui_frontend_package'] = None; from kandiflux.cli import main; main()"
    command = [sys.executable, "-c", code, "host", "--editor", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "runner"), "KANDIFLUX_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert 'pip install "kandiflux[editor]"' in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_without_editor_there_is_none(lite_host: RunningHost) -> None:
    assert "--editor" in requests.get(lite_host.url, timeout=10).text
    assert requests.get(f"{lite_host.url}/api/userdata", timeout=10).status_code == 404
