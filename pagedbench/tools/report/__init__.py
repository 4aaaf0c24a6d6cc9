"""`pagedbench report` and `plot`: pictures of saved runs, and one file about them."""
