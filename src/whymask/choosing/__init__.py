"""Which images to label next, from features that were pretrained."""
