"""The record of inspections and verdicts: SQL tables whose rows are only ever added."""
