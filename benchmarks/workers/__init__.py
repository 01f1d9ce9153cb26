"""Programs that are measured and run in this project's own environment."""
