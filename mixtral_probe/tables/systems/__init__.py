"""What routing means for the machines that serve a model: devices, caches, capacity, skipped experts."""
