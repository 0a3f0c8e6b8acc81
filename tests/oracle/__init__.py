"""A second opinion on every number: a recount written from the rules alone, histories full of edges, their comparison with `replay`."""
