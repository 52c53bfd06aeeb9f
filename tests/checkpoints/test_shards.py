"""Checkpoints in several files, as the Hugging Face libraries write them."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from small_timm import small_timm
from swin_deploy.core.errors import InputError
from swin_deploy.network.checkpoints.files import read_tensors
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.shards import checkpoint_sha256
from swin_deploy.network.checkpoints.source import checkpoint_file

ASKED = LoadOptions(image_size=(64, 64))


def shards(folder: Path, safe: bool = True) -> Path:
    folder.mkdir()
    huggingface_hub.save_torch_state_dict(
        small_timm().state_dict(), folder, max_shard_size="100KB", safe_serialization=safe
    )
    assert len(list(folder.glob("*-of-*"))) > 2
    return folder


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "torch.save"])
def test_all_shards_are_one_checkpoint(tmp_path: Path, safe: bool) -> None:
    folder = shards(tmp_path / "folder", safe)
    found = load_checkpoint(folder, ASKED)
    whole = small_timm().state_dict()
    assert len(found.tensors) == len(whole)
    assert torch.equal(found.tensors["head.weight"], whole["head.fc.weight"])
    index = next(folder.glob("*.index.json"))
    assert read_tensors(index).tensors.keys() == whole.keys()


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = shards(tmp_path / "folder")
    gone = sorted(folder.glob("*-of-*"))[1]
    gone.unlink()
    with pytest.raises(InputError, match=gone.name):
        load_checkpoint(folder, ASKED)


def test_a_shard_with_other_tensors_is_refused(tmp_path: Path) -> None:
    folder = shards(tmp_path / "folder")
    shard = sorted(folder.glob("*-of-*"))[0]
    tensors = load_file(shard)
    name = next(iter(tensors))
    save_file({("other" if key == name else key): value for key, value in tensors.items()}, shard)
    with pytest.raises(InputError, match=shard.name):
        load_checkpoint(folder, ASKED)


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", ".."])
def test_an_index_names_files_of_its_folder_only(tmp_path: Path, name: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(InputError, match="no files"):
        read_tensors(index)


def test_the_hash_is_of_all_shards(tmp_path: Path) -> None:
    folder = shards(tmp_path / "folder")
    before = checkpoint_sha256(checkpoint_file(folder))
    shard = sorted(folder.glob("*-of-*"))[-1]
    tensors = load_file(shard)
    save_file({name: value + 1 for name, value in tensors.items()}, shard)
    assert checkpoint_sha256(checkpoint_file(folder)) != before
