"""The TLA+ model of a token's life, and what checks it. docs/model.md explains both."""
