"""Speed of whymask's inner parts beside their usual counterparts, side by side on one machine: `make bench`."""
