"""The record of what was inspected and what people said: SQL tables that are only ever added to."""
