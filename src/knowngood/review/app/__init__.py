"""The station on the web: an API for machines and pages for people, over one record."""
