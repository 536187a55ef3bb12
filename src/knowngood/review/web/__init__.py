"""The station's HTTP surface: access, API, KServe, pages."""
