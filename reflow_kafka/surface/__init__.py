"""What a `Flow` offers: one class for each kind of methods, all of them its bases."""
