"""The records of a run, and the formulas over them."""
