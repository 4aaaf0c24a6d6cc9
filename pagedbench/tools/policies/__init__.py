"""`pagedbench policies`: what to preempt, evict and admit; and how far from the best."""
