"""What indexes are made of: embeddings, catalogues and their items, and how they change."""
