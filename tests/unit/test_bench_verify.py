"""The lines by which the speed of verify is measured."""

from __future__ import annotations

import pytest

from bench import verify


@pytest.mark.parametrize("compress", ["", *verify.COMPRESSIONS])
@pytest.mark.parametrize("kind", verify.KINDS)
def test_the_lines_that_verify_is_measured_with_are_all_stamped_and_clean(kind: str, compress: str) -> None:
    assert verify._row("what", kind, compress, 300, 1).startswith("| what | ")
