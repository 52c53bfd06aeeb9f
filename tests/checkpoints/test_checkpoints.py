"""A checkpoint loads completely, or not at all and with the reason."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conftest import POCKET, Silent
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import InputError, SwinDeployError, UnsafeError
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.resolve import resolve_variant
from swin_deploy.network.checkpoints.source import Source
from swin_deploy.network.model.build import build_model

AT_64 = LoadOptions(image_size=POCKET.config.image_size)
Spoil = Callable[[dict[str, Tensor]], None]


@pytest.fixture
def pocket_tensors() -> dict[str, Tensor]:
    """A pocket network in the authors' names."""
    return dict(build_model(POCKET.config).named_parameters())


def load(path: Path, content: object) -> Checkpoint:
    torch.save(content, path)
    return load_checkpoint(path, AT_64)


@pytest.mark.fault(7, 10)
def test_known_buffers_and_containers_are_listed(
    tmp_path: Path, pocket_tensors: dict[str, Tensor]
) -> None:
    pocket_tensors["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    wrapped = {f"module.{name}": value for name, value in pocket_tensors.items()}
    found = load(tmp_path / "x.pth", {"model": wrapped})
    assert found.opened == ("model", "module.")
    assert found.dropped == ("layers.0.blocks.1.attn_mask",)


@pytest.mark.fault(12)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32_and_are_noted(
    tmp_path: Path, pocket_tensors: dict[str, Tensor], dtype: torch.dtype
) -> None:
    found = load(tmp_path / "x.pth", {k: v.to(dtype) for k, v in pocket_tensors.items()})
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}
    assert found.notes == (f"{len(pocket_tensors)} tensors of {str(dtype)[6:]} became float32",)


def without(name: str) -> Spoil:
    def spoil(tensors: dict[str, Tensor]) -> None:
        del tensors[name]

    return spoil


def with_value(name: str, change: Callable[[Tensor], Tensor]) -> Spoil:
    return lambda tensors: tensors.update({name: change(tensors[name])})


def poison(value: Tensor) -> Tensor:
    value = value.clone()
    value[0, :3] = float("nan")
    return value


SPOILT: dict[str, tuple[Spoil, str]] = {
    "a tensor is missing": (without("layers.1.blocks.0.mlp.fc2.bias"), "mlp.fc2.bias is missing"),
    "the head is missing": (without("head.weight"), "lacks 'head.weight'"),
    "a tensor too many": (
        lambda tensors: tensors.update({"layers.0.blocks.0.gamma": torch.ones(3)}),
        "1 tensors that no Swin of Microsoft",
    ),
    "another shape": (
        with_value("layers.2.blocks.1.attn.proj.bias", lambda v: v[:-1]),
        r"proj.bias is \(63,\), expected \(64,\)",
    ),
    "NaN": (with_value("head.weight", poison), "head.weight holds 3 NaN or infinite values"),
    "all zeros": (with_value("head.weight", torch.zeros_like), "head.weight is all zeros"),
    "integers": (with_value("head.weight", lambda v: v.to(torch.int8)), "torch.int8"),
    "half a Swin V2": (
        lambda tensors: tensors.update({"layers.0.blocks.0.attn.logit_scale": torch.ones(1, 1, 1)}),
        "lacks 'layers.1.blocks.0.attn.logit_scale'",
    ),
    "a mask of another value": (
        lambda tensors: tensors.update(
            {"layers.0.blocks.1.attn_mask": torch.full((4, 2, 2), -1.0)}
        ),
        "attn_mask holds .-1.0., but masks here are -100",
    ),
    "another position index": (
        lambda tensors: tensors.update(
            {"layers.0.blocks.1.attn.relative_position_index": torch.zeros(16, 16).long()}
        ),
        "counts positions in another way",
    ),
}


@pytest.mark.fault(3, 10, 11)
@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT.keys())
def test_a_checkpoint_loads_whole_or_not_at_all(
    spoil: Spoil,
    message: str,
    tmp_path: Path,
    pocket_tensors: dict[str, Tensor],
) -> None:
    spoil(pocket_tensors)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "x.pth", pocket_tensors)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("backbone.stages.0.blocks.0.attn.w_msa.logit_scale", "is a OpenMMLab Swin V2 checkpoint"),
        ("stages.0.blocks.0.attn.meta_mlp.fc1.weight", "is a Swin V2-CR .timm's swinv2_cr. check"),
        ("absolute_pos_embed", "is a Swin with absolute positions checkpoint"),
        ("conv1.weight", "is of no known dialect; its keys begin with conv1.weight"),
    ],
)
def test_what_cannot_be_loaded_is_refused_by_its_name(
    tmp_path: Path, key: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path / "x.pth", {key: torch.ones(2, 2)})


class Hostile:
    """Unpickling this would run a command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.canary}'",)


@pytest.mark.fault(5)
@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "bare pickle"])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, legacy: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "x.pth"
    torch.save({"model": Hostile(canary)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeError, match=r"would run code to be read: \w+\.system") as caught:
        load_checkpoint(path)
    assert caught.value.exit_code == 8
    assert not canary.exists()


def test_a_torchscript_program_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"")
        archive.writestr("x/constants.pkl", b"")
    with pytest.raises(InputError, match="is a TorchScript program, not a checkpoint"):
        load_checkpoint(tmp_path / "x.pt")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def blank_the_tail(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 4] + bytes(size - size // 4))


def write(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


@pytest.mark.fault(1, 2, 3, 4)
@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("x.pth", cut, "not a complete PyTorch archive|damaged"),
        ("x.pth", flip_a_bit, "is damaged in"),
        ("x.safetensors", cut, "is damaged"),
        ("x.safetensors", blank_the_tail, "is all zeros"),
        ("x.pth", write(b""), "is empty"),
        ("x.pth", write(b"not a pickle at all"), "is not a"),
        ("x.pth", write(b"<!DOCTYPE html><html></html>"), "is a web page"),
        ("x.bin", write(b"version https://git-lfs.github.com/spec/v1\n"), "is a git-lfs pointer"),
        ("x.safetensors", write(b"\xff" * 100), "is damaged"),
        ("x.safetensors", write(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"), "is damaged"),
        ("x.txt", write(b"text"), "has the suffix '.txt'"),
        ("x.pth", Path.unlink, "does not exist"),
    ],
)
def test_a_damaged_file_is_one_clear_line(
    name: str,
    spoil: Callable[[Path], None],
    message: str,
    tmp_path: Path,
    pocket_tensors: dict[str, Tensor],
) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(pocket_tensors, path)
    else:
        torch.save(pocket_tensors, path)
    spoil(path)
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(path, AT_64)
    assert caught.value.exit_code == 3


def test_the_image_size_is_asked_for_where_nothing_says_it(
    tmp_path: Path, pocket_tensors: dict[str, Tensor]
) -> None:
    save_file(pocket_tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="do not say their image size; try: --image SIZE"):
        load_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.fault(8)
def test_a_wrong_variant_names_the_one_that_fits(tmp_path: Path) -> None:
    save_file(dict(build_model(VARIANTS["swin_t"].config).named_parameters()), tmp_path / "x.bin")
    (tmp_path / "x.bin").rename(path := tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="no swin_b: it has embed_dim 96, not 128") as caught:
        load_checkpoint(path, LoadOptions(wanted=VARIANTS["swin_b"].config))
    assert caught.value.hint == "--variant swin_t"


def test_export_and_bench_of_a_checkpoint(
    tmp_path: Path, pocket_tensors: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "my weights.safetensors", tmp_path / "run"
    save_file(pocket_tensors, path)
    assert cli.run(["inspect", str(path), "--image", "64", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["config"]["depths"] == [2, 2, 2]
    assert "'" in facts["next"]  # the space in the name is quoted
    assert cli.run(["inspect", str(path), "--image", "64"]) == 0
    assert "Microsoft" in capsys.readouterr().out

    command = ["export", "--weights", str(path), "--image", "64", "--out", str(out)]
    command += ["--target", "cpu", "--precision", "fp32"]
    assert cli.run(command) == 0
    text = capsys.readouterr().out
    assert "weights: my weights.safetensors (Microsoft" in text
    assert "RANDOM" not in text
    kept = load_file(out / "weights.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in pocket_tensors.items())
    assert json.loads((out / "manifest.json").read_text())["weights"]["source"] == "file"

    assert cli.run(command) == 0
    assert "all stages current" in capsys.readouterr().out
    path.rename(tmp_path / "moved.safetensors")  # a run needs nothing outside its folder
    assert cli.run(["bench", "--engine", str(out), "--rounds", "2"]) == 0
    assert "agrees with eager" in capsys.readouterr().out

    save_file(dict(build_model(POCKET.config, seed=1).named_parameters()), path)
    assert cli.run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["current"] == []


@pytest.mark.fault(9)
def test_the_classes_of_a_checkpoint_win_and_its_network_has_to_fit(
    tmp_path: Path, pocket_tensors: dict[str, Tensor]
) -> None:
    path = tmp_path / "x.safetensors"
    save_file(pocket_tensors, path)
    wanted = replace(POCKET, config=replace(POCKET.config, num_classes=1000))
    source = Source(path=path, provenance={})
    found = resolve_variant(source, wanted, LoadOptions(wanted=wanted.config), Silent())
    assert found.config.num_classes == POCKET.config.num_classes
    assert found.preprocessing == wanted.preprocessing
    with pytest.raises(SwinDeployError, match="no swin_t: it has embed_dim 16, not 96; depths"):
        load_checkpoint(path, LoadOptions(wanted=VARIANTS["swin_t"].config))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds none of model\.safetensors"):
        load_checkpoint(tmp_path)
    shutil.rmtree(tmp_path)
