"""What a run is asked to do, checked when it is made; and the reader of config files."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol

from swin_deploy.core.errors import (
    Checked,
    ConfigError,
    InputError,
    SwinDeployError,
    caught,
    wrong_seed,
)
from swin_deploy.core.own_files import read_plain
from swin_deploy.core.records import reading
from swin_deploy.engine.options import DEFAULT_OPTIONS, BuildOptions
from swin_deploy.graph.int8 import CalibrationMethod, require_method
from swin_deploy.network.catalogue import Variant, require_size
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import (
    AS_EXPORTED,
    DEFAULT_PRECISIONS,
    EMBEDDING,
    HALF_PRECISIONS,
    LOGITS,
    NO_EMBEDDING,
    ONE_IMAGE,
    OUTPUTS,
    STAGES,
    BatchRange,
    Interface,
    Outputs,
    Precision,
    Preprocessing,
    Size,
)
from swin_deploy.network.swin import Semantics, SwinConfig
from swin_deploy.network.vit import VitConfig

MAX_DROP = 0.5  # percentage points of top-1 that INT8 may lose


class Listener(Protocol):
    """Hears what a run is doing."""

    def started(self, title: str) -> None:
        """A stage starts to run."""

    def note(self, text: str) -> None:
        """Something that the user has to know."""

    def advanced(self, what: str, done: int, total: int) -> None:
        """So much of a long stage is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Options:
    """How to quantise; fields are the options of ``export``, here what its help does not say.

    Attributes:
        labelled: INT8 is judged by its accuracy on them, in place of its distance from FP32.
        max_drop: None for ``MAX_DROP``.
    """

    calibration: Path | None = None
    images: int = 512
    seed: int = 0
    method: CalibrationMethod = "percentile"
    keep: tuple[str, ...] = ()
    also: tuple[Literal["embed", "head"], ...] = ()
    labelled: Path | None = None
    max_drop: float | None = None

    @property
    def allowed_drop(self) -> float:
        """``max_drop``, or what it is where nobody says."""
        return MAX_DROP if self.max_drop is None else self.max_drop

    def __post_init__(self) -> None:
        require_method(self.method)
        if self.max_drop is not None and self.labelled is None:
            raise ConfigError("--max-drop is of labelled images, and none are given", "--labelled")
        if not 0 <= self.allowed_drop <= 100:
            raise ConfigError(f"max_drop = {self.max_drop} is not from 0 to 100 points")
        if self.images < 1 or self.seed < 0:
            raise ConfigError(
                f"calibration on {self.images} images of seed {self.seed}",
                "at least 1 image, and a seed from 0 on",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(Checked):
    """What is said of a run whatever the network turns out to be.

    Fields are the options of ``export``; here is what its help does not say.

    Attributes:
        seed: Without meaning where weights are given.
        int8: Without meaning unless INT8 is among the precisions.
        targets: None for all that this machine can build.
        images: None for noise alone.
        gate_seed: None for another one whenever something changed.
    """

    seed: int = 0
    batch: BatchRange = ONE_IMAGE
    outputs: Outputs = LOGITS
    interface: Interface = AS_EXPORTED
    precisions: tuple[Precision, ...] = DEFAULT_PRECISIONS
    int8: Int8Options = Int8Options()
    fp32_nodes: tuple[str, ...] = ()
    build: BuildOptions = DEFAULT_OPTIONS
    targets: tuple[str, ...] | None = None
    images: Path | None = None
    gate_seed: int | None = None
    strict: bool = False
    wait_s: float = 0

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        yield from wrong_seed(self.seed)
        if self.gate_seed is not None and self.gate_seed < 0:
            yield ConfigError(f"gate_seed = {self.gate_seed} is not from 0 on")
        if self.outputs not in OUTPUTS:
            yield ConfigError(f"outputs = {self.outputs!r} is none of {', '.join(OUTPUTS)}")
        if not (math.isfinite(self.wait_s) and self.wait_s >= 0):
            yield ConfigError(f"wait = {self.wait_s} is no number of seconds")
        yield from self._int8_problems()
        if self.fp32_nodes and not set(HALF_PRECISIONS) & set(self.precisions):
            yield ConfigError(
                f"--fp32-nodes {','.join(self.fp32_nodes)} is for graphs in half precision, and "
                f"--precision {','.join(self.precisions)} makes none",
                "--precision fp16",
            )
        if "" in self.fp32_nodes or "" in self.int8.keep:
            option = "--fp32-nodes" if "" in self.fp32_nodes else "--int8-keep"
            yield ConfigError(f"{option} has a name that is empty", "names or patterns as *.fc2")
        interface = self.interface
        if (interface.probabilities or interface.topk is not None) and self.outputs != LOGITS:
            yield ConfigError(
                f"--activation and --topk are of logits, and --outputs {self.outputs} gives none",
                "--outputs logits",
            )
        if interface.io == "fp16" and ("fp16" not in self.precisions or "bf16" in self.precisions):
            yield ConfigError(
                f"--io fp16 is for FP16 graphs, not for --precision {','.join(self.precisions)}",
                "--precision fp32,fp16",
            )

    def _int8_problems(self) -> Iterator[SwinDeployError]:
        calibrated, wanted = self.int8.calibration is not None, "int8" in self.precisions
        if self.int8.labelled is not None and self.outputs != LOGITS:
            what = "maps of stages have" if self.outputs == STAGES else "an embedding has"
            yield ConfigError(f"{what} no classes to judge on", "no --labelled")
        elif self.int8.labelled is not None and self.interface.task != "single-label":
            yield ConfigError(
                "--labelled judges by the one class that is right, and this network is "
                f"{self.interface.task}",
                "no --labelled: INT8 is then held to its distance from FP32",
            )
        if not calibrated and self.int8 != Int8Options():
            asked = "" if wanted else "--precision int8 and "
            yield ConfigError("options of INT8 are given, and no images", f"{asked}--calibration")
        elif calibrated and not wanted:
            yield ConfigError(
                f"calibration is for INT8, which is not among {', '.join(self.precisions)}",
                f"--precision {','.join((*self.precisions, 'int8'))}",
            )
        elif wanted and not calibrated:
            yield InputError(
                "INT8 needs images to calibrate on, and none are given: ranges of noise or of "
                "nothing would make a network that runs and is wrong",
                "--calibration with a few hundred images like those of the deployment",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest(ExportOptions):
    """One run of the whole way, from a network to verified engines.

    Attributes:
        out: The run folder.
        weights: Checkpoint file or folder; None for random weights.
        load: How to read it.
        provenance: Where it comes from, for the manifest.
        labels: Name of each class, where they are known.
    """

    variant: Variant
    out: Path
    weights: Path | None = None
    load: LoadOptions = field(default_factory=LoadOptions)
    provenance: dict[str, str] = field(default_factory=lambda: {"source": "file"})
    labels: tuple[str, ...] = ()

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        yield from ExportOptions.problems(self)
        config, topk = self.variant.config, self.interface.topk
        if self.outputs == LOGITS and not config.num_classes:
            yield ConfigError(
                f"{config.name} has no head, so it gives no logits", "--outputs stages"
            )
        elif self.outputs == EMBEDDING and isinstance(config, SwinConfig) and not config.has_norm:
            yield ConfigError(f"{config.name} {NO_EMBEDDING}", "--outputs stages")
        elif topk is not None and topk > config.num_classes:
            yield ConfigError(
                f"--topk {topk}: {config.name} has {config.num_classes} classes",
                f"--topk {config.num_classes}",
            )
        if self.interface.activation == "softmax" and config.num_classes == 1:
            yield ConfigError(
                f"--activation softmax: {config.name} has one output, whose softmax is 1 whatever "
                "it sees",
                "--activation sigmoid for the probability of one label, or none",
            )
        if self.outputs == STAGES and isinstance(config, VitConfig):
            yield ConfigError(
                f"{config.name} has no stages whose maps it could give", "--outputs logits"
            )
        yield from caught(require_size, config)


def values_of(options: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, for one that has them too."""
    return {f.name: getattr(options, f.name) for f in fields(options)}


def read_config(path: Path, image_size: Size | None = None) -> Variant:
    """Read a network from a TOML file.

    Args:
        path: Keys as the fields of ``SwinConfig``, and tables [semantics] and [preprocessing] as
            those of ``Semantics`` and ``Preprocessing``. ``name`` defaults to the file's name,
            ``image_size`` may be one number or [height, width].
        image_size: Overrides the file's.
    """
    content = read_plain(path)
    try:
        with reading(path, "TOML", _KEYS):
            data = tomllib.loads(content.decode("utf-8-sig"))
            json.dumps(data, default=str)  # which ``_checked`` does: numbers of any length, no loop
    except InputError as error:
        raise ConfigError(error.problem, error.hint) from error
    if not data:
        raise ConfigError(f"{path} describes no network: it has no keys", _KEYS)
    if isinstance(size := data.get("image_size"), int):
        data["image_size"] = [size, size]
    if image_size is not None:
        data["image_size"] = list(image_size)
    preprocessing, semantics = data.pop("preprocessing", {}), data.pop("semantics", {})
    problems: list[str] = []
    network = _checked(SwinConfig, {"name": path.stem, **data}, "", problems)
    rules = _checked(Semantics, semantics, "semantics.", problems)
    steps = _checked(Preprocessing, preprocessing, _STEPS, problems)
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}", _KEYS)
    stated = (*data, *(f"{_STEPS}{key}" for key in preprocessing))
    try:
        network["semantics"] = Semantics(**rules)
        return Variant(
            config=SwinConfig(**network),
            preprocessing=Preprocessing(**steps),
            rules=tuple(semantics),
            stated=stated,
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.problem}", error.hint) from error


_STEPS = "preprocessing."  # before the keys of that table
_KEYS = (
    f"keys {', '.join(f.name for f in fields(SwinConfig) if f.name != 'semantics')}; "
    f"in [semantics] {', '.join(f.name for f in fields(Semantics))}; "
    f"in [preprocessing] {', '.join(f.name for f in fields(Preprocessing))}"
)


def _checked(kind: type, data: object, prefix: str, problems: list[str]) -> dict[str, Any]:
    """``data`` with the types of the dataclass ``kind``; what is wrong goes into ``problems``."""
    from pydantic import ConfigDict, ValidationError, create_model

    hints = typing.get_type_hints(kind)
    columns: dict[str, Any] = {
        f.name: (hints[f.name], ... if f.default is MISSING else f.default) for f in fields(kind)
    }
    schema = create_model(
        kind.__name__, __config__=ConfigDict(extra="forbid", strict=True), **columns
    )
    try:
        # Through JSON, whose arrays are the tuples of a dataclass; TOML has no tuples either.
        values = schema.model_validate_json(json.dumps(data, default=str))
        return {name: getattr(values, name) for name in columns}
    except ValidationError as error:
        for item in error.errors():
            key = prefix + ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                near = difflib.get_close_matches(str(item["loc"][-1]), columns, n=1)
                problems.append(
                    f"unknown key {key}" + (f" (did you mean {near[0]}?)" if near else "")
                )
            else:
                problems.append(f"{key} = {item['input']!r}: {item['msg'].lower()}")
        return {}
