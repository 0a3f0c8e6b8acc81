"""An independent check of every number: histories full of edge cases, and the comparison of `replay` with services/recount."""
