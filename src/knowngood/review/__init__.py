"""The review station: inspections, verdicts of people and approvals in one record (`store`), served by `web`."""
