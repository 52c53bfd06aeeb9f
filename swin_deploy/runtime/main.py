"""``swin.pyz``: build, bench, predict and info, on the device, from the folder of the bundle."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from swin_deploy import __version__
from swin_deploy.core.errors import (
    EnvironmentMissingError,
    SwinDeployError,
    UsageError,
)
from swin_deploy.core.outcome import leave, run_command
from swin_deploy.network.interface import PRECISIONS, Precision, describe_outputs
from swin_deploy.runtime.formats import LINE_FORMATS, align, comparison_lines, printable
from swin_deploy.runtime.record import read_record, require_only_listed
from swin_deploy.runtime.trust import SIGNATURE, UnpackedBundle


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")


def entry() -> NoReturn:
    """What the archive runs."""
    program = Path(sys.argv[0])
    leave(run(sys.argv[1:], program.name, program.resolve().parent))


def run(arguments: Sequence[str], program: str, folder: Path) -> int:
    """Run the command line; returns the exit code (see ``swin_deploy.core.errors``).

    Args:
        arguments: Without the program's name.
        program: What help calls it.
        folder: Of the bundle, where none is named.
    """
    as_json, debug = "--json" in arguments, "--debug" in arguments
    return run_command(
        lambda: _dispatch(_parser(program, folder).parse_args(arguments)),
        as_json,
        debug,
        show_error,
    )


def show_error(error: SwinDeployError) -> None:
    """Print the comparisons that failed, if it is about such."""
    if "verification" in error.details:
        for line in comparison_lines(error.details["verification"]["comparisons"]):
            print(line, file=sys.stderr)


def _parser(program: str, folder: Path) -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    shared.add_argument("--bundle", type=Path, default=folder, metavar="DIR", help="its folder")
    shared.add_argument("--verify-key", type=Path, metavar="PUB", help="who has to have signed it")
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    opened = _Parser(add_help=False)
    opened.add_argument("--precision", choices=PRECISIONS, help="of the engine")
    opened.add_argument("--threads", type=_positive, metavar="N", help="on a CPU")
    parser = _Parser(
        prog=program,
        description="Build, measure, use and show the bundle that this program lies in.",
    )
    parser.add_argument("--version", action="version", version=f"swin-deploy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    build = commands.add_parser(
        "build", parents=[shared], help="compile, verify and publish engines for this machine"
    )
    build.add_argument(
        "--precision", metavar="LIST", help=f"some of {','.join(PRECISIONS)}, or all"
    )
    bench = commands.add_parser("bench", parents=[shared, opened], help="latency and throughput")
    bench.add_argument("--batch", type=_positive, metavar="N", help="default: the largest")
    bench.add_argument("--seconds", type=float, default=5.0, help="default: 5")
    predict = commands.add_parser("predict", parents=[shared, opened], help="classify photos")
    predict.add_argument(
        "sources", nargs="+", metavar="PHOTO", help="files, folders, or - for a list"
    )
    predict.add_argument(
        "--top", type=_positive, metavar="K", help="default: 5, or all labels of a multi-label one"
    )
    predict.add_argument(
        "--threshold", type=_share, metavar="P", help="from which its labels hold; default: 0.5"
    )
    predict.add_argument("--format", choices=LINE_FORMATS, default="table")
    predict.add_argument("--annotate", type=Path, metavar="DIR", help="write pictures there")
    info = commands.add_parser("info", parents=[shared], help="what the bundle is")
    for command in (build, bench, info):
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def _dispatch(options: argparse.Namespace) -> int:
    if options.command != "info":  # which reads and compares files, and no more
        try:
            import numpy  # noqa: F401
        except ImportError as error:
            raise EnvironmentMissingError(
                f"numpy is not here: {error}",
                "pip install numpy, or sudo apt install python3-numpy",
            ) from error
    return {"build": _build, "bench": _bench, "predict": _predict, "info": _info}[options.command](
        options
    )


def _build(options: argparse.Namespace) -> int:
    from swin_deploy.runtime.build import build_bundle
    from swin_deploy.runtime.trust import open_bundle

    shipped = open_bundle(options.bundle, options.verify_key)
    precisions = _precisions(shipped, options.precision)
    print(f"bundle.json has sha256 {shipped.sha256}", file=sys.stderr)  # to be compared by voice
    published = build_bundle(shipped, precisions, lambda text: print(text, file=sys.stderr))
    if options.json:
        print(json.dumps([one.as_dict() for one in published], indent=2))
        return 0
    for one in published:
        print("\n".join(comparison_lines(one.verification.as_dict()["comparisons"])))
        print(f"{one.precision}: {one.engine.module} {one.engine.version}, {one.seconds:.1f} s")
        print(f"published {one.path}")
    return 0


def _precisions(shipped: UnpackedBundle, text: str | None) -> list[Precision]:
    if text is None:
        return [shipped.choose(None)]
    if text == "all":
        return list(shipped.graphs)
    return [shipped.choose(name) for name in dict.fromkeys(text.split(","))]


def _bench(options: argparse.Namespace) -> int:
    from swin_deploy.runtime.bench import bench_engine, require_seconds
    from swin_deploy.runtime.engine import SwinEngine

    require_seconds(options.seconds)
    with SwinEngine.load(
        options.bundle, options.precision, verify_key=options.verify_key, threads=options.threads
    ) as engine:
        timing = bench_engine(engine, options.batch, options.seconds)
    if options.json:
        print(json.dumps(timing.as_dict(), indent=2))
        return 0
    print(
        f"{timing.engine}, batch {timing.batch}: p50 {timing.p50_ms:.2f} ms, "
        f"p90 {timing.p90_ms:.2f} ms, p99 {timing.p99_ms:.2f} ms, "
        f"{timing.images_per_s:.1f} images/s ({timing.calls} calls)"
    )
    return 0


def _predict(options: argparse.Namespace) -> int:
    from swin_deploy.runtime.engine import SwinEngine
    from swin_deploy.runtime.report import Telling, find_work, report_photos

    photos = find_work(options.bundle, options.sources, options.annotate)
    with SwinEngine.load(
        options.bundle, options.precision, verify_key=options.verify_key, threads=options.threads
    ) as engine:
        telling = Telling(
            top=options.top,
            threshold=options.threshold,
            form=options.format,
            pictures=options.annotate,
        )
        report_photos(engine, photos, telling)
    return 0


def _info(options: argparse.Namespace) -> int:
    from swin_deploy.runtime.trust import open_bundle

    facts = describe(open_bundle(options.bundle, options.verify_key))
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    print("\n".join(summary_lines(facts)))
    return 0


def describe(shipped: UnpackedBundle) -> dict[str, Any]:
    """What was shipped, and what was built of it here."""
    height, width = shipped.image_size
    record = read_record(shipped)
    require_only_listed(shipped, record)
    return {
        "network": shipped.network,
        "made by": f"swin-deploy {shipped.tool.version}",
        "weights": shipped.weights,
        "image": f"{height}x{width}",
        "batch": str(shipped.batch),
        "outputs": shipped.outputs,
        "task": shipped.interface.task,
        "classes": shipped.classes,
        "labels": len(shipped.label_names),
        "target": shipped.target,
        "precisions": list(shipped.graphs),
        "floors_db": {precision: graph.floors_db for precision, graph in shipped.graphs.items()},
        "preprocessing": asdict(shipped.preprocessing),
        "notes": list(shipped.notes),
        "signed": (shipped.folder / SIGNATURE).is_file(),
        "sha256": shipped.sha256,
        "built": {
            precision: {"files": built.files, "built_for": asdict(built.built_for)}
            for precision, built in record.engines.items()
        },
    }


def summary_lines(facts: Mapping[str, Any]) -> list[str]:
    """The same, of ``describe``, for people."""
    steps = facts["preprocessing"]
    rows = [
        ("network", f"{facts['network']} for {facts['target']}, made by {facts['made by']}"),
        ("weights", _weights(facts["weights"])),
        ("image", f"{facts['image']} pixels, channels: {len(steps['mean'])}"),
        ("batch", facts["batch"]),
        ("outputs", _outputs(facts)),
        *(("precision", f"{p}: {_floors(floors)}") for p, floors in facts["floors_db"].items()),
        ("photos", ", ".join(f"{name} {_number(value)}" for name, value in steps.items())),
        ("labels", str(facts["labels"] or "none")),
        ("signed", "yes, see --verify-key" if facts["signed"] else "no"),
        ("sha256", f"{facts['sha256']} of bundle.json"),
        *(("engine", _engine(p, entry["built_for"])) for p, entry in facts["built"].items()),
        *([] if facts["built"] else [("engine", "none was built here")]),
        *(("note", note) for note in facts["notes"]),
    ]
    return align([(name, printable(value)) for name, value in rows])


def _outputs(facts: Mapping[str, Any]) -> str:
    return f"{facts['outputs']}: {describe_outputs(facts['task'], facts['classes'])}"


def _weights(about: Mapping[str, Any]) -> str:
    if about["source"] == "random":
        return "RANDOM: it predicts nothing"
    return ", ".join(f"{name} {value}" for name, value in about.items())


def _floors(floors: Mapping[str, float]) -> str:
    return ", ".join(f"{output} at least {floor:.0f} dB" for output, floor in floors.items())


def _number(value: Any) -> str:
    return " ".join(f"{v:g}" for v in value) if isinstance(value, tuple | list) else str(value)


def _engine(precision: str, built_for: Mapping[str, Any]) -> str:
    where = built_for.get("device") or built_for.get("platform")
    return f"{precision}: {built_for.get('module')} {built_for.get('version')}, {where}"
