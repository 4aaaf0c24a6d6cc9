"""Where keys and values live: block tables or contiguous extents over one pool of slots."""
