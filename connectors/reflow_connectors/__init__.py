"""Connectors: how events enter a flow from elsewhere, and leave it to elsewhere.

Each lives in a folder of its own, named like its optional extra; importing this package imports none of
them. `reflow_connectors.registry` finds connectors by name, those of third parties included.
"""
