"""What it costs: `make bench` prints one table of times, ratios and peak memory. Nothing is asserted or run by pytest."""
