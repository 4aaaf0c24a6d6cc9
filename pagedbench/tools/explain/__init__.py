"""`pagedbench explain`: where the time went."""
