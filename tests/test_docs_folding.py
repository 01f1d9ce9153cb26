"""docs/gather.md, aggregations.md and joins.md: their flows and their commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_docs import ROOT, check_page


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", ["gather.md", "aggregations.md", "joins.md"])
def test_the_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    check_page(ROOT / "docs" / page, tmp_path)
