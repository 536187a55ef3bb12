"""Arms over seeds on the same images: comparisons, the verdict on synthetic images, the study."""
