"""Reading a large checkpoint takes memory for its weights about twice, not more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.model.build import build_model

# Peak resident memory above what the imports take, in a process of its own.
CODE = """
import resource, sys
from pathlib import Path
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.model.build import model_from_tensors

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
found = load_checkpoint(Path(sys.argv[1]))
model_from_tensors(found.config, found.tensors)
print(peak() - before)
"""


@pytest.mark.slow
def test_swin_l_peaks_below_two_and_a_half_times_its_file(tmp_path: Path) -> None:
    path = tmp_path / "swin_l.pth"
    torch.save({"model": dict(build_model(VARIANTS["swin_l"].config).named_parameters())}, path)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=True
    )
    size = path.stat().st_size
    assert size > 780e6
    assert int(done.stdout) < 2.5 * size
