"""Permission requests of principal investigators (not built yet)."""
