"""What a `Flow` offers besides stages, sources and sinks: one class for each kind, all of them its bases."""
