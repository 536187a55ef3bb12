"""The review station: people and the recipe, one record. `store` keeps it, `app` serves it."""
