"""Bad images from few: what makes them, how they are written, and how they are judged."""
