"""What one loss is: the base class, its norm, and the adapter for foreign losses."""
