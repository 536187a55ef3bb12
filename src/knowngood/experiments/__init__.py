"""Arms over seeds on the same images: comparisons, audit, removal trial, the verdict on synthetic images, the study."""
