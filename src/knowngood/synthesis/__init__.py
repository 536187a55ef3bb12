"""Bad images made from few: StyleGAN, defect transplant, and how far they can be trusted."""
