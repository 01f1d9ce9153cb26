"""The public names: sorted, resolvable, each once."""

from __future__ import annotations

import reflow_kafka


def test_all_is_sorted_and_has_no_duplicates() -> None:
    names = list(getattr(reflow_kafka, "__all__", []))
    assert names == sorted(set(names))


def test_all_names_resolve() -> None:
    missing = [name for name in getattr(reflow_kafka, "__all__", []) if not hasattr(reflow_kafka, name)]
    assert missing == []
