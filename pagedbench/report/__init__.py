"""What a user reads of a run: the folder, the tables, the progress. Reads results, never measures."""
