"""`pagedbench calibrate`: a profile of this machine, or of a card from published operator times."""
