"""`pagedbench view`: the memory of one run over time."""
