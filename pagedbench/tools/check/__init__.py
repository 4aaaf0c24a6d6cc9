"""`pagedbench check`: whether any decision of scheduler or memory manager has changed."""
