"""`pagedbench policies`: whom to preempt, what to evict, whom to admit; and how far from the best."""
