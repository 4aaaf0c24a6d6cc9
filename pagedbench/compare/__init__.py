"""What changed between saved runs, how sure that is, and whether it breaks a gate."""
