"""`pagedbench trace`: look at traces, convert them, make them."""
