"""What the project costs and how fast it is, as ratios of things measured side by side in one run: `make bench`."""
