"""How far each organ of a result can be trusted."""
