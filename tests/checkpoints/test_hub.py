"""Weights come from a hub once, then from the cache; what goes wrong is one clear line."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from conftest import ROOT
from local_hub import COMMIT, Hub
from published import save_timm, save_transformers
from small_timm import small_timm
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError
from swin_deploy.network.checkpoints.hub import resolve_source

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Repository -> its files. Tests must not change them."""
    root = tmp_path_factory.mktemp("repositories")
    made = {
        "owner/tiny-swin": save_transformers(root / "transformers"),
        "timm/tiny": save_timm(root / "timm"),
        "owner/pickled": root / "pickled",
        "owner/empty": root / "empty",
    }
    shutil.copytree(made["timm/tiny"], made["owner/pickled"])
    (made["owner/pickled"] / "model.safetensors").unlink()
    made["owner/empty"].mkdir()
    return made


@pytest.fixture
def hub(folders: dict[str, Path]) -> Iterator[Hub]:
    server = Hub()
    server.folders = folders | {"owner/gated": folders["timm/tiny"]}
    server.gated = {"owner/gated"}
    with server.running():
        yield server


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """The command line in a process of its own, with a cache of its own and that hub."""

    def swin_deploy(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "swin_deploy", *arguments],
            cwd=tmp_path,
            env=os.environ | environment_of(hub, tmp_path) | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return swin_deploy


def environment_of(hub: Hub, tmp_path: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "TORCH_HOME": str(tmp_path / "torch"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def inspected(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def fails(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of an error."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error[E_")
    return line


def test_a_repository_is_exported_and_its_origin_recorded(
    run: Run, hub: Hub, folders: dict[str, Path], tmp_path: Path
) -> None:
    command = ("export", "--weights", "hf:owner/tiny-swin", "--target", "cpu")
    done = run(*command, "--precision", "fp32", "--out", "run")
    assert done.returncode == 0, done.stderr
    (note,) = done.stderr.splitlines()  # no bar in a pipe
    assert note.startswith("note: image 32x32; crop 1 (squash), bicubic")
    assert f"weights: hf:owner/tiny-swin at {COMMIT[:12]}, model.safetensors (Hug" in done.stdout
    assert hub.downloaded == ["config.json", "preprocessor_config.json", "model.safetensors"]

    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    content = (folders["owner/tiny-swin"] / "model.safetensors").read_bytes()
    assert manifest["weights"] == {
        "source": "hf",
        "repository": "owner/tiny-swin",
        "revision": COMMIT,
        "file": "model.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "dialect": "Hugging Face",
    }
    assert manifest["preprocessing"]["crop_mode"] == "squash"
    assert manifest["preprocessing"]["mean"] == [0.4, 0.5, 0.6]
    assert manifest["variant"]["image_size"] == [32, 32]
    labels = json.loads((tmp_path / "run" / "labels.json").read_text())
    assert labels == [f"class {index}" for index in range(5)]

    again = run(*command, "--precision", "fp32", "--out", "run", "--json", HF_HUB_OFFLINE="1")
    assert len(json.loads(again.stdout)["current"]) == len(manifest["stages"])


def test_a_repository_in_shards_comes_whole(run: Run, hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    hub.folders["owner/shards"] = folder
    huggingface_hub.save_torch_state_dict(small_timm().state_dict(), folder, max_shard_size="200KB")
    shards = sorted(path.name for path in folder.glob("*-of-*"))
    assert len(shards) > 2
    told = ("--weights", "hf:owner/shards", "--image", "64", "--target", "cpu")
    done = run("export", *told, "--precision", "fp32", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert sorted(name for name in hub.downloaded if name in shards) == shards
    (folder / shards[1]).unlink()
    assert run("inspect", "hf:owner/shards", "--image", "64").returncode == 0  # of the cache


def test_the_cache_serves_when_the_network_is_gone(run: Run, hub: Hub) -> None:
    """Also what a repository does not have is known: this one has no second JSON file."""
    first = inspected(run("inspect", "timm:tiny", "--json"))
    assert first["source"] == {
        "source": "timm",
        "repository": "timm/tiny",
        "revision": COMMIT,
        "file": "model.safetensors",
    }
    assert first["preprocessing"]["crop"] == 0.9
    assert hub.downloaded == ["config.json", "model.safetensors"]
    hub.asked.clear()
    assert inspected(run("inspect", f"timm:tiny@{COMMIT}", "--json")) == first | {
        "next": f"swin-deploy export --weights timm:tiny@{COMMIT}"
    }
    assert hub.asked == []  # a commit cannot change
    hub.down = True
    done = run("inspect", "timm:tiny", "--json")
    assert inspected(done) == first
    assert done.stderr == f"note: the hub cannot be reached; the cache has timm/tiny at {COMMIT}\n"
    done = run("inspect", "timm:tiny", "--json", HF_HUB_OFFLINE="1")
    assert inspected(done) == first
    assert done.stderr == ""


@pytest.mark.parametrize("weights", ["hf:owner/tiny-swin", f"hf:owner/tiny-swin@{COMMIT}"])
def test_without_network_and_cache_it_says_what_is_missing(
    weights: str, run: Run, hub: Hub
) -> None:
    hub.down = True
    line = fails(run("inspect", weights), 4)
    assert "owner/tiny-swin" in line
    assert "is not in the cache as a whole and cannot be downloaded: " in line
    assert "try: download it on a machine that can, and give --weights the folder" in line
    assert "HF_HUB_OFFLINE is set" in fails(run("inspect", weights, HF_HUB_OFFLINE="1"), 4)


@pytest.mark.parametrize(
    ("weights", "code", "message"),
    [
        ("hf:owner/none", 3, "there is no repository owner/none on the hub, or it is private"),
        ("timm:none", 3, "there is no repository timm/none on the hub"),
        ("hf:owner/tiny-swin@v9", 3, "the repository owner/tiny-swin has no revision v9"),
        (f"timm:tiny@{'f' * 40}", 3, f"the repository timm/tiny has no revision {'f' * 40}"),
        ("hf:owner/empty", 3, "owner/empty holds none of model.safetensors"),
        ("hf:owner/gated", 9, "the repository owner/gated is gated"),
    ],
)
def test_what_is_not_there_is_named(weights: str, code: int, message: str, run: Run) -> None:
    assert message in fails(run("inspect", weights), code)


def test_a_broken_connection_leaves_nothing_behind(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.broken = True
    line = fails(run("inspect", "hf:owner/tiny-swin"), 4)
    assert "cannot be downloaded: " in line
    assert not list((tmp_path / "hf").rglob("*.incomplete"))
    assert not list((tmp_path / "hf").rglob("*.safetensors"))
    hub.broken = hub.down = False
    assert inspected(run("inspect", "hf:owner/tiny-swin", "--json"))["dialect"] == "Hugging Face"


def test_a_cache_that_was_spoilt_is_not_believed(run: Run, tmp_path: Path) -> None:
    inspected(run("inspect", "timm:tiny", "--json"))
    (weights,) = (tmp_path / "hf").rglob("model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.resolve().write_bytes(content)
    assert "is not the file of that hash" in fails(run("inspect", "timm:tiny"), 8)


def test_pickled_weights_are_taken_where_there_are_no_others(run: Run, hub: Hub) -> None:
    facts = inspected(run("inspect", "hf:owner/pickled", "--json"))
    assert facts["source"]["file"] == "pytorch_model.bin"
    assert facts["dialect"].startswith("timm")


@pytest.mark.parametrize(
    ("status", "reason"), [(200, "what answers is no hub: "), (500, "the hub answers 500")]
)
def test_a_server_that_is_no_hub_is_not_believed(
    status: int, reason: str, run: Run, hub: Hub
) -> None:
    hub.foreign = status
    line = fails(run("inspect", "hf:owner/tiny-swin"), 4)
    assert f"cannot be downloaded: {reason}" in line


def test_a_terminal_shows_a_bar(hub: Hub, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "swin_deploy", "inspect", "timm:tiny"],
        env=os.environ | environment_of(hub, tmp_path) | {"TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    assert b"model.safetensors" in shown
    assert "━".encode() in shown


@pytest.mark.fault(43)
@pytest.mark.parametrize(
    "weights",
    [
        "hf:",
        "timm:",
        "torchvision:",
        "hf:two words",
        "hf:../up",
        "hf:a/b/c",
        "hf:a/..",
        "hf:owner/name@",
        "hf:owner/name@../../x",
        "hf:-x/y",
        "hf:a--b",
        "hf:owner/name.git",
        f"hf:{'x' * 97}",
        "hf:owner/nämé",
        "timm:owner/name",
        "torchvision:swin_t:",
        "torchvision:swin-t",
    ],
)
def test_what_cannot_be_a_name_is_refused_at_once(
    weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", "--weights", weights]) == 2
    err = capsys.readouterr().err
    assert "names nothing that there can be; try: a name as in" in err
    assert len(err.splitlines()) == 1


def test_bundled_weights_are_a_source_too() -> None:
    source = resolve_source("bundled", "swin_pocket", None)  # type: ignore[arg-type]
    assert source.provenance == {"source": "bundled"}
    assert source.path.name == "swin_pocket.safetensors"
    with pytest.raises(ConfigError, match="no weights for swin_t come with the package"):
        resolve_source("bundled", "swin_t", None)  # type: ignore[arg-type]
