"""Parquet tables: the contract with users, the sharded writer, the manifest, publishing and queries."""
