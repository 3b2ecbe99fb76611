"""YAML to a criterion: the grammar of compound losses, the builder, and the legacy block."""
