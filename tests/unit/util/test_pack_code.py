"""The pack's own code, imported by the runner under a name of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from kandiflux.errors import KandifluxError
from kandiflux.util import pack_code
from kandiflux.util.pack_code import pack_module

NAME = "kandiflux_pack_nodes"


def test_a_folder_without_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.setattr(pack_code, "pack_root", lambda: tmp_path)
    with pytest.raises(KandifluxError, match="cannot be imported"):
        pack_module("host")
    assert NAME not in sys.modules


def test_a_module_is_imported_once_from_where_the_pack_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == NAME or name.startswith(f"{NAME}.")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "nodes" / "models").mkdir(parents=True)
    (tmp_path / "nodes" / "__init__.py").write_text("begun = []\n")
    (tmp_path / "nodes" / "models" / "__init__.py").touch()
    (tmp_path / "nodes" / "models" / "one.py").write_text("from .. import begun\nbegun.append(__name__)\n")
    monkeypatch.setattr(pack_code, "pack_root", lambda: tmp_path)
    try:
        module = pack_module("models.one")
        assert pack_module("models.one") is module
        assert module.begun == [f"{NAME}.models.one"]
        assert sys.modules[NAME].__file__ == str(tmp_path / "nodes" / "__init__.py")
    finally:
        for name in [name for name in sys.modules if name == NAME or name.startswith(f"{NAME}.")]:
            del sys.modules[name]
