"""A short run of every fuzzer; `make fuzz` runs them longer."""

import sys

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS


@pytest.mark.skipif(sys.platform == "win32", reason="uses alarms")
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_damaged_files_are_read_or_refused_with_a_sentence(target):
    if not target.is_possible:
        pytest.skip(f"needs {target.needs}")
    outcome = fuzz(target, seed=1, seconds=1.5)
    assert outcome.failures == []
    assert outcome.inputs >= 10
    assert outcome.refused > 0
