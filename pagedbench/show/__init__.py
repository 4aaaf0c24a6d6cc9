"""Tables, charts, documents and progress: what people and programs read."""
