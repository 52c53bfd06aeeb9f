"""Our calls of TensorRT against NVIDIA's own bindings, from the oldest version we serve on.

The wheels of the bindings are small, and import where empty libraries stand in for the engine:
every class, method and enumeration member is there, none of them can be called. A name that some
version lacks must stand behind ``if hasattr(trt.Class, "NAME"):``.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import swin_deploy
import tensorrt_api
from swin_deploy.core.own_files import lock_own
from tensorrt_api import Api
from tensorrt_contract import Walk

DISTRIBUTIONS = {
    "10.3.0": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu13-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
VERSIONS = (*DISTRIBUTIONS, "rtx")
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
ROOT = Path(swin_deploy.__file__).parent
SOURCES = {
    str(path.relative_to(ROOT)): text
    for path in sorted(ROOT.rglob("*.py"))
    if re.search(
        r"\b(trt|import_module)\b|\bimport tensorrt|\bfrom tensorrt", text := path.read_text()
    )
}
BUILD = SOURCES["engine/tensorrt.py"]
CONFIG = "    config = builder.create_builder_config()\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bindings load Linux libraries")
Bindings = Callable[[str], Api]


def tool(command: list[str | Path], purpose: str, **options: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{purpose} failed: {done.stderr[-2000:]}"


def install(folder: Path, version: str) -> None:
    """The bindings of one version, and the libraries that they ask for, with nothing in them."""
    wheel = f"{DISTRIBUTIONS[version]}=={version}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    tool([*pip, "--target", folder, wheel], f"installing {wheel}")
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "no C compiler: install gcc, which makes the libraries that stand in"
    source = "".join(f"void {symbol}(void) {{}}\n" for symbol in SYMBOLS)
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = folder / f"lib{name}.so.{version.split('.')[0]}"
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", library]
        tool(command, f"compiling {library.name}", input=source)


@pytest.fixture(scope="session")
def bindings(pytestconfig: pytest.Config) -> Bindings:
    """What a version has. They exclude each other, so each is asked in a process of its own."""
    kept = pytestconfig.cache.mkdir("tensorrt-bindings")

    @cache
    def describe(version: str) -> Api:
        folder = kept / f"{version}-{sys.implementation.cache_tag}"
        with lock_own(kept / "lock", str(kept), "wait", wait_s=600):
            if version in DISTRIBUTIONS and not folder.exists():
                with tempfile.TemporaryDirectory(dir=kept) as scratch:
                    install(Path(scratch) / "whole", version)
                    (Path(scratch) / "whole").rename(folder)
        module, paths = "tensorrt_rtx", {}
        if version in DISTRIBUTIONS:
            module = "tensorrt_bindings"
            paths = {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder)}
        command = [sys.executable, str(Path(tensorrt_api.__file__)), module]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | paths
        )
        assert done.returncode == 0, f"{module} {version} cannot be imported: {done.stderr}"
        api: Api = json.loads(done.stdout)
        assert api[""]["__version__"]["text"] == version or version == "rtx"
        return api

    return describe


def changed(old: str, new: str) -> str:
    assert old in BUILD
    return BUILD.replace(old, new)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_name_and_call_exists(bindings: Bindings, source: str, version: str) -> None:
    walk = Walk(bindings(version), SOURCES[source])
    assert not walk.problems, "\n".join(walk.problems)
    assert walk.checked


def test_every_gate_opens_somewhere(bindings: Bindings) -> None:
    walks = [Walk(bindings(version), text) for version in VERSIONS for text in SOURCES.values()]
    gates = {name for walk in walks for name in walk.gates}
    assert gates == {name for walk in walks for name, here in walk.gates.items() if here}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("source", SOURCES)
def test_any_name_made_up_is_seen(bindings: Bindings, source: str, version: str) -> None:
    api, text = bindings(version), SOURCES[source]
    walk = Walk(api, text)
    places = [i for i, node in enumerate(ast.walk(walk.tree)) if node in walk.checked]
    for place in places:
        tree = ast.parse(text)
        node = list(ast.walk(tree))[place]
        assert isinstance(node, ast.Attribute)
        node.attr = f"{node.attr}_made_up"
        problems = Walk(api, ast.unparse(tree)).problems
        assert any("made_up does not exist" in problem for problem in problems), ast.unparse(node)


@pytest.mark.parametrize(
    "line",
    ["builder.platform_has_fast_fp16", "config.set_flag(trt.BuilderFlag.FP16)"],
)
def test_a_name_that_only_tensorrt_10_has(bindings: Bindings, line: str) -> None:
    text = changed(CONFIG, f"{CONFIG}    {line}\n")
    found = {version: Walk(bindings(version), text).problems for version in VERSIONS}
    assert [version for version, problems in found.items() if problems] == ["11.4.0.106", "rtx"]
    assert all("does not exist in Builder" in text for text in found["11.4.0.106"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gate_lets_it_pass(bindings: Bindings, version: str) -> None:
    gate = 'if hasattr(trt.BuilderFlag, "FP16"):\n        config.set_flag(trt.BuilderFlag.FP16)\n'
    walk = Walk(bindings(version), changed(CONFIG, f"{CONFIG}    {gate}"))
    assert not walk.problems
    assert walk.gates["trt.BuilderFlag.FP16"] == version.startswith("10.")


def test_the_gates_of_the_build_open_where_the_names_are(bindings: Bindings) -> None:
    for version in VERSIONS:
        newer = version != "10.3.0"
        assert Walk(bindings(version), BUILD).gates == {
            "config.num_compute_capabilities": version == "rtx",
            "config.max_num_tactics": newer,
            "trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY": newer,
        }


@pytest.mark.parametrize(
    ("call", "renamed"),
    [
        ("builder.create_builder_config()", "builder.platform_has_fast_int8()"),
        ("config.get_timing_cache()", "config.get_calibration_profile()"),
        ("trt.BuilderFlag.REFIT", "trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS"),
        ("parser.get_error(index)", "parser.supports_model(index)"),
    ],
)
def test_a_call_that_is_renamed_to_one_of_tensorrt_10_is_reported_on_11(
    bindings: Bindings, call: str, renamed: str
) -> None:
    """In a copy of our source; TensorRT 10 has the name, and may want other arguments of it."""
    name = renamed.partition("(")[0].rpartition(".")[2]
    for version in VERSIONS:
        problems = Walk(bindings(version), changed(call, renamed)).problems
        missing = [text for text in problems if f"{name} does not exist" in text]
        assert bool(missing) == (not version.startswith("10.")), (version, problems)


def test_only_rtx_compiles_for_gpus_that_are_not_here(bindings: Bindings) -> None:
    gate = '    if hasattr(config, "num_compute_capabilities"):\n'
    ungated = changed(gate, "    if True:\n")
    for version in VERSIONS:
        problems = Walk(bindings(version), ungated).problems
        assert bool(problems) == (version != "rtx")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("builder.create_builder_config(1)", "takes 0 arguments, not 1"),
        ("builder.create_network(flag=1)", "has no argument flag"),
        ("network.get_input()", "needs index"),
        ("network.get_input(*batch)", "cannot be counted"),
        ("trt.OnnxParser(logger, network)", "wants INetworkDefinition, not ILogger"),
        ("config.profiling_verbosity = logger", "wants ProfilingVerbosity, not ILogger"),
        ("parser.num_errors = 0", "cannot be set"),
        ("[builder][0].no_method()", "does not exist in Builder"),
        ("(builder, 1)[0].create_network()", "that the walk does not know"),
        ("Path(builder)", "code that is not looked at"),
        ("getattr(builder, 'create_network')()", "code that is not looked at"),
        ("batch.builder = builder", "where the walk does not look"),
        ("def helper(engine: Any) -> None: engine.name", "is never reached"),
        ("from tensorrt import Builder", "which of the modules"),
    ],
)
def test_what_does_not_fit_or_cannot_be_followed(
    bindings: Bindings, line: str, complaint: str, version: str
) -> None:
    walk = Walk(bindings(version), changed(CONFIG, f"{CONFIG}    {line}\n"))
    assert any(complaint in problem for problem in walk.problems), walk.problems
