"""What a device gets: decided, signed, published and served. Imports experiments and the registry."""
