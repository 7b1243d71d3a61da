"""The embedded store says in one line why it cannot run."""

import os

import pytest

from project import embedded_store
from project.embedded_store import EmbeddedStoreError


def test_a_machine_without_glibc_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def know_no_such_name(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", know_no_such_name)
    with pytest.raises(EmbeddedStoreError) as refusal:
        embedded_store._binary()
    assert str(refusal.value) == (
        "the embedded store needs glibc, which Alpine lacks; set REDIS_URL instead"
    )
