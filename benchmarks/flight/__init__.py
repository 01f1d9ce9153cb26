"""Many events in flight: handlers that wait, fail, block or compute: ``python -m benchmarks.flight``."""
