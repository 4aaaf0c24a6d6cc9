"""What a run leaves behind, and the formulas over it."""
