"""How fast containers start, beside the engines that people use: ``make bench-engine``."""
