"""`pagedbench sweep`: many runs, in processes, resumable."""
