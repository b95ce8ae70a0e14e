"""What serving costs: caches, capacities, placements."""
