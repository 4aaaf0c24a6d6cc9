"""`pagedbench compare`: what differs between runs, and whether it is more than noise."""
