"""Whose jobs are whose: the same for one user of one machine, and nothing of who that is."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator

import pytest
from kandiflux.jobs.owner import OWNER, this_owner


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    this_owner.cache_clear()
    yield
    this_owner.cache_clear()


def owner(user: str | Exception, machine: str, monkeypatch: pytest.MonkeyPatch) -> str:
    def name() -> str:
        if isinstance(user, Exception):
            raise user
        return user

    monkeypatch.setattr(getpass, "getuser", name)
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    this_owner.cache_clear()
    return this_owner()


def test_an_owner_is_a_user_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that wait on servers bear it: it stays the same from version to version."""
    assert OWNER == "kandiflux_owner"
    assert owner("ann", "gpu", monkeypatch) == "71d7333b2d3e67d4"
    assert len({owner(user, host, monkeypatch) for user in ("ann", "bob") for host in ("gpu", "cpu")}) == 4


@pytest.mark.parametrize("error", [OSError("none"), KeyError("uid"), ImportError("pwd")])
def test_a_user_without_a_name_is_one_too(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert owner(error, "gpu", monkeypatch) == owner("?", "gpu", monkeypatch) != owner("ann", "gpu", monkeypatch)
