"""Programs that are measured and run in environments of their own."""
