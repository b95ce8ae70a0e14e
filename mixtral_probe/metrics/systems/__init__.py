"""The cost of serving: caches, capacities, placements."""
