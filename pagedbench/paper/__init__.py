"""The paper's figures as experiments: its own arrivals, its set-ups, its numbers, and a verdict on each."""
