"""One file per upstream type; found by walking this package."""
