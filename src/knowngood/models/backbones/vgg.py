"""VGG-16 (Simonyan & Zisserman 2015), with its fully connected layers: Grad-CAM explains it, CAM cannot."""

from knowngood.models.backbones import Backbone

VGG16 = Backbone(
    "vgg16",
    "VGG-16, 134.3 M parameters (14.7 M without its head), 15.5 GMAC at 224 px",
    stages=(2, 3, 4, 5),
    pooled_head=False,
    last_maps="features.29",  # before the last pooling, where the places are still finest
)
