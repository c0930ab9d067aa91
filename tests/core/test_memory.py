"""Freed memory stays with the process: page faults are counted by the system."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from emitter.core.memory import keep_freed_memory
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings
if sys.argv[1] == "kept":
    assert keep_freed_memory()
torch.set_num_threads(1)
network = EmitterNetwork(VarSettings(), 3, InputScaling())
frames_FHW, window_BT = torch.rand(4, 256, 256), torch.tensor([[0, 1, 2], [1, 2, 3]])
with torch.inference_mode():
    for _ in range(6):  # the heap grows for some passes, until every map finds a place
        network.forward_movie(frames_FHW, window_BT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        network.forward_movie(frames_FHW, window_BT)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_predictions_use_freed_memory_again():
    usual, kept = faults("usual"), faults("kept")
    assert usual > 1000
    assert kept < usual / 10, (usual, kept)
