"""Faults that stop everything: kill -9 and power cuts under load, with controls that must lose mail."""
