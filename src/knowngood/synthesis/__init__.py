"""Generated bad images: generators, how their sets are written, and how they compare with real images."""
