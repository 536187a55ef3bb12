"""StyleGAN from the papers: networks, adaptive augmentation, training; top to bottom, nothing copied."""
