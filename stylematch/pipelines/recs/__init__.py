"""How good recommendations are: retrieval, crops and worn clothes, measured."""
