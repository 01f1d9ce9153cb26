"""What a `Flow` offers besides stages, sources and sinks, by kinds."""
