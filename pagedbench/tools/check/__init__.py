"""`pagedbench check`: no decision changed unnoticed."""
