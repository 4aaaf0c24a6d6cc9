"""What iterations cost: fitted operator times, cards, the roofline over them, and measured profiles."""
