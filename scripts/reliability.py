"""Write docs/reliability.md: every fault of the catalogue, and the tests and runs that show it.

    scripts/reliability.py [--junit FILE] [--result FILE ...] [--check]

--junit takes the outcome of tests from a file of ``scripts/test --junitxml FILE``, --result that of
a long run from a file that kill_runs.py, read_while_publishing.py, fuzz.py or mutate.py wrote. Both
are kept in docs/reliability.json, from which the page is made. A test shows a fault by
its mark, ``@pytest.mark.fault(17)``. --check writes nothing, and fails where the page is not what
would be written.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PAGE, RECORD = ROOT / "docs" / "reliability.md", ROOT / "docs" / "reliability.json"


@dataclass(frozen=True)
class Fault:
    """One row of the catalogue.

    Attributes:
        title: What goes wrong.
        expected: What has to happen, and the exit code.
        untried: What of it no test provokes, and why.
    """

    title: str
    expected: str
    untried: str = ""


FAULTS = {
    1: Fault(
        "A `.pth` that is cut, empty or has one wrong bit", "refused, the record named (exit 3)"
    ),
    2: Fault("A `.safetensors` that is cut", "refused (exit 3)"),
    3: Fault("A `.safetensors` of full length whose end is zeros", "refused (exit 3)"),
    4: Fault(
        "A `.safetensors` whose header lies about its size",
        "refused, in bounded memory (exit 3)",
        "tensors that overlap, names that occur twice, headers of 100 MB",
    ),
    5: Fault(
        "A pickle that runs code, in checkpoints and arrays", "refused, nothing runs (exit 8)"
    ),
    6: Fault(
        "A checkpoint with objects beside its tensors",
        "known ones are inert, others are refused (exit 8)",
    ),
    7: Fault("Containers, prefixes and averaged weights", "loaded; the choice is said"),
    8: Fault("Weights of another variant", "refused; the variant that fits is named (exit 3)"),
    9: Fault("A head of other classes", "taken or refused, never made anew (exit 3)"),
    10: Fault(
        "Missing and unexpected tensors; known buffers",
        "buffers are noted, others refuse the file (exit 3)",
    ),
    11: Fault("NaN or infinity in weights", "refused, tensor and count named (exit 3)"),
    12: Fault("Other types, strides and tied tensors", "widened with a note, or refused (exit 3)"),
    13: Fault("An image size that the network cannot take", "the nearest sizes are named (exit 2)"),
    14: Fault("Files that are no ONNX: empty, a web page, junk, cut", "refused by kind (exit 3)"),
    15: Fault("ONNX that contradicts itself", "refused, the node named (exit 3)"),
    16: Fault("ONNX with data outside of its folder", "refused before a runtime opens it (exit 8)"),
    17: Fault("Data beside a graph that changed since the manifest", "refused (exit 8)"),
    18: Fault(
        "A graph beyond 2 GiB",
        "refused before its weights are made, both sizes named (exit 6)",
        "weights in a file beside the graph, which no published network needs",
    ),
    19: Fault(
        "An opset that a target does not know",
        "the lowest that all targets know is taken; others are refused (exit 4)",
    ),
    20: Fault("An exporter that fixes the batch", "found by running several batches (exit 3 or 5)"),
    21: Fault(
        "A simplifier that crashes, hangs, or changes the numbers",
        "the graph stays as exported; with `--strict` (exit 6 or 5)",
    ),
    22: Fault("A rewrite that changes the result", "the gate fails; the block is named (exit 5)"),
    23: Fault("INT8 that lost its accuracy", "the gate fails; the worst places are named (exit 5)"),
    24: Fault("Folders of photos: empty, missing, nested, looped", "counted or refused (exit 3)"),
    25: Fault(
        "Photos that are corrupt, cut, or something else",
        "1 in 20 is left out, more are refused (exit 3)",
    ),
    26: Fault(
        "Bombs, single pixels, animations", "bombs are refused, the first frame is taken (exit 3)"
    ),
    27: Fault("Colour modes, 16 bits, alpha, orientation", "one documented meaning everywhere"),
    28: Fault("Arrays: shape, type, NaN, objects, bombs", "refused by name (exit 3 or 8)"),
    29: Fault("Fewer images than asked for, part of a batch", "all are used, and it is said"),
    30: Fault("Labels that are not the classes", "the first mismatches are listed (exit 3)"),
    31: Fault("Activations that are constant, huge or zero", "the scale has a floor; noted"),
    32: Fault(
        "An engine of another machine, or a damaged one",
        "both are named (exit 4), changed ones are refused (exit 8)",
    ),
    33: Fault("An engine that no manifest lists, or that is not as listed", "refused (exit 8)"),
    34: Fault(
        "TensorRT, GPU or driver missing or too old",
        "the hint installs it; the rest goes on (exit 4)",
        "drivers that are too old are stood in for by a library of the tests",
    ),
    35: Fault(
        "A compiler that dies, or has a damaged cache",
        "the log is kept; the cache is made anew (exit 6)",
        "the kernel's own killing for memory, which takes a machine",
    ),
    36: Fault(
        "Too large a batch, wrong input, no memory on the GPU",
        "said before the call, or with a smaller batch (exit 3 or 6)",
        "memory of a real GPU",
    ),
    37: Fault(
        "The host's memory in calibration",
        "it does not grow with the images",
        "a limit on the address space of the whole command",
    ),
    38: Fault("A full disk", "the old artifact stays, nothing is half (exit 6)"),
    39: Fault("SIGKILL at any moment", "the next run goes on, and ends with the same bytes"),
    40: Fault("SIGINT, SIGTERM, SIGHUP, a closed pipe", "a clean stop (exit 130, 143, 129)"),
    41: Fault(
        "Two runs at once, a lock of a dead process",
        "one waits, or is refused (exit 7)",
        "locks on network file systems, for which the tests have none",
    ),
    42: Fault(
        "Places where nothing can be written",
        "said before the work (exit 9)",
        "a file system that is mounted read-only, which takes privileges that CI may lack",
    ),
    43: Fault("Names of any bytes, markup in names", "escaped, or refused (exit 2)"),
    44: Fault("Config files and requests without meaning", "all mistakes at once (exit 2)"),
}


def read_junit(path: Path) -> dict[str, dict[str, int]]:
    """Test -> outcome -> cases, of all marked tests in a file of ``pytest --junitxml``."""
    tallies: dict[str, Counter[str]] = defaultdict(Counter)
    suite = ElementTree.parse(path).getroot()  # noqa: S314 - written by our own pytest
    for case in suite.iter("testcase"):
        found = case.findall("properties/property")
        if not any(entry.attrib["name"] == "fault" for entry in found):
            continue
        name = case.attrib["name"].partition("[")[0]
        tally = tallies[f"{case.attrib['classname'].replace('.', '/')}.py::{name}"]
        bad = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        tally["failed" if bad else "skipped" if skipped else "passed"] += 1
    if not tallies:
        sys.exit(f"{path} has no test with the mark 'fault'")
    return {test: dict(sorted(tally.items())) for test, tally in sorted(tallies.items())}


def find_marks(folder: Path) -> dict[str, set[int]]:
    """Test -> rows that it is marked with, over all files of tests, which are not imported."""
    found: dict[str, set[int]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in getattr(node, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    where = path.relative_to(folder.parent).as_posix()
                    name = f"{where}::{getattr(node, 'name', '')}"
                    found.setdefault(name, set()).update(map(ast.literal_eval, mark.args))
    return found


def verdict(outcomes: dict[str, int]) -> str:
    """What the cases of a test came to in the last run."""
    if outcomes.get("failed"):
        return f"**{outcomes['failed']} failed**"
    passed, skipped = outcomes.get("passed", 0), outcomes.get("skipped", 0)
    counts = [f"{passed} passed"] * bool(passed) + [f"{skipped} skipped"] * bool(skipped)
    return ", ".join(counts) or "not in the last run"


def render(record: dict[str, Any], marks: dict[str, set[int]]) -> str:
    """The page of the tests that there are, and of what was recorded."""
    by_row = {n: [test for test, rows in marks.items() if n in rows] for n in FAULTS}
    tried = sum(bool(found) for found in by_row.values())
    lines = [
        "# Faults, and what shows that nothing is lost",
        "",
        "Written by `scripts/reliability.py` from what tests and long runs recorded; not by hand.",
        "For every fault: no earlier file is lost, none is half written, the lock is free, the",
        "message says what to do. [Exit codes](exit-codes.md) have a page of their own.",
        "",
        f"{tried} of {len(FAULTS)} faults have tests.",
        "",
        "## Long runs",
        "",
        *long_runs(record["runs"]),
        "## The catalogue",
        "",
    ]
    for number, fault in FAULTS.items():
        found = by_row[number]
        lines += [f"### {number}. {fault.title}", "", f"Expected: {fault.expected}.", ""]
        lines += [f"- `{test}`: {verdict(record['tests'].get(test, {}))}" for test in found]
        lines += [""] if found else ["**No test.**", ""]
        lines += [f"Not tried: {fault.untried}.", ""] * bool(fault.untried)
    return "\n".join(lines).rstrip() + "\n"


# Kind of a long run -> its heading, how it is made, and its figures in the order of the page.
RUNS = {
    "kills": (
        "Runs that are killed",
        "scripts/kill_runs.py",
        ("kills", "at_calls", "at_random_times", "reruns_identical", "faults", "seconds"),
    ),
    "reads": (
        "Reads during publications",
        "scripts/read_while_publishing.py",
        ("reads", "readers", "publications", "errors", "seconds"),
    ),
    "fuzz": (
        "Damaged inputs",
        "scripts/fuzz.py",
        ("inputs", "read", "refused", "untyped", "hangs", "seed", "seconds"),
    ),
    "mutants": (
        "Changes to the code that the tests have to notice",
        "scripts/mutate.py",
        ("mutants", "killed", "timeouts", "survived", "explained", "percent", "seconds"),
    ),
}


def long_runs(runs: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for kind, (title, script, names) in RUNS.items():
        lines += [f"### {title}", ""]
        if kind not in runs:
            lines += [f"Not run yet: `{script}`.", ""]
            continue
        lines += ["| figure | value |", "|---|---:|"]
        lines += [f"| {name.replace('_', ' ')} | {runs[kind][name]} |" for name in names]
        lines += ["", f"`{runs[kind]['command']}`, {runs[kind]['date']}.", ""]
        if since := runs[kind].get("since"):  # what was done about it
            lines += [since, ""]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--junit", type=Path, metavar="FILE")
    parser.add_argument("--result", type=Path, metavar="FILE", action="append", default=[])
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    marks = find_marks(ROOT / "tests")
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"tests": {}, "runs": {}}
    if asked.check:
        if not PAGE.exists() or PAGE.read_text() != render(record, marks):
            sys.exit(f"{PAGE} is not what scripts/reliability.py writes: run it")
        return
    if asked.junit:
        record["tests"] = read_junit(asked.junit)
    for path in asked.result:
        result = json.loads(path.read_text())
        record["runs"][result.pop("kind")] = result
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(render(record, marks))
    print(
        f"{PAGE.relative_to(ROOT)}: {len(record['tests'])} tests, {len(record['runs'])} long runs"
    )


if __name__ == "__main__":
    main()
