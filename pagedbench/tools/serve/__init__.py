"""`pagedbench serve`: our engine behind an OpenAI-compatible endpoint."""
