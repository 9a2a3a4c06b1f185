"""Memory that the allocator gives back is kept up to the bound, and no further; in a process of its own, since the allocator is the whole process's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from storage import native
from storage.arenas import _keep_arenas

PROGRAM = """
import json, resource
from storage.arenas import keep_arenas

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def rounds():
    before = faults()
    for _ in range(5):
        held = [bytes([number % 256]) * 200 for number in range(100_000)]  # 24 MB
        assert all(value == bytes([number % 256]) * 200 for number, value in enumerate(held))
        del held
    return faults() - before

told = {"before": keep_arenas(0), "without": rounds(), "at_first": keep_arenas(64 * 2**20)}
rounds()
told["with"] = rounds()
told["kept"] = keep_arenas(64 * 2**20)
told["less"] = keep_arenas(4 * 2**20)
told["none"] = keep_arenas(0)
told["again"] = rounds()
print(json.dumps(told))
"""


@pytest.mark.skipif(native.KERNEL is None, reason="the kernel is not built: nothing is kept")
def test_arenas_are_kept_up_to_the_bound():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["before"] == told["at_first"] == told["none"] == 0
    assert 16 * 2**20 < told["kept"] <= 64 * 2**20
    assert 0 < told["less"] <= 4 * 2**20
    assert told["with"] * 4 < told["without"], "pages that are kept are not faulted in again"
    assert told["again"] * 2 > told["without"]


@pytest.mark.skipif(native.KERNEL is None, reason="the kernel is not built")
@pytest.mark.parametrize("wrong", [-1, "1", None, 2**80])
def test_what_is_no_size_is_refused(wrong: object):
    with pytest.raises((TypeError, OverflowError)):
        native.KERNEL.keep_arenas(wrong)


def test_without_the_kernel_nothing_is_kept():
    assert _keep_arenas(2**20) == 0
