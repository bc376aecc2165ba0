"""FAISS: build, save, load, search and filter."""
