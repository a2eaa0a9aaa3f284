"""Without a key, the workspace is described in a file, and the output says how to use it."""

import json
from pathlib import Path
from typing import Any

import pytest
import wandb

from helpers import config
from throughline.commands.dashboard import Dashboard
from throughline.commands.dashboard import dashboard as build
from throughline.plumbing.errors import UserError

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed: pip install -e '.[dashboard]'")


def dashboard(*overrides: str) -> Any:
    return config(*overrides, name="dashboard", cls=Dashboard)


def test_without_a_key_the_workspace_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(dashboard(f"out={tmp_path}/new/workspace.json", "logger.project=mine"))
    said = capsys.readouterr().out
    assert said.startswith(f"W&B: WANDB_MODE=offline, so the workspace is only written to {tmp_path}/new/workspace.json; ")
    assert "in the project mine" in said
    section = json.loads((tmp_path / "new" / "workspace.json").read_text())["section"]
    shown = {part["name"]: [panel["config"] for panel in part["panels"]] for part in section["panelBankConfig"]["sections"]}
    assert list(shown) == ["Loss", "Passages", "Device", "Differences"]
    assert [(panel["xAxis"], panel["metrics"]) for panel in shown["Loss"]][:2] == [
        ("x/tokens", ["val/nll"]),
        ("x/seconds", ["val/nll"]),
    ]
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"section": "config", "name": "regime.value.name"}]
    assert "train" in json.dumps(runs["filters"])
    assert runs["sort"]["keys"] == [{"key": {"section": "summary", "name": "val/nll"}, "ascending": True}]


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise ConnectionError("no route")

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr("wandb.login", lambda **_: True)
    monkeypatch.setattr("wandb.Api", unreachable)
    with pytest.raises(UserError, match=r"^logger: W&B says: no route; the workspace is in .*workspace\.json$"):
        build(dashboard(f"out={tmp_path}/workspace.json"))


def test_a_mode_that_does_not_exist_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "garbage")
    wandb.teardown()  # so that the environment is read again
    with pytest.raises(UserError, match=r"^logger: W&B says: .*garbage.*; the workspace is in .*workspace\.json$"):
        build(dashboard(f"out={tmp_path}/workspace.json"))


def test_with_a_key_the_workspace_is_saved_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Api:
        default_entity = "me"

    saved = []
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr("wandb.login", lambda **_: True)
    monkeypatch.setattr("wandb.Api", Api)
    monkeypatch.setattr("wandb_workspaces.workspaces.Workspace.save", lambda self: saved.append(self) or self)
    monkeypatch.setattr("wandb_workspaces.workspaces.Workspace.url", "https://wandb.example/me/mine")
    build(dashboard(f"out={tmp_path}/workspace.json", "logger.project=mine"))
    assert [(view.entity, view.project, view.name) for view in saved] == [("me", "mine", "regimes")]
    assert capsys.readouterr().out == "W&B: https://wandb.example/me/mine\n"
