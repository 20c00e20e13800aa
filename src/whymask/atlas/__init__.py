"""Every image as a point, by what a network makes of it, and the images that this casts doubt on."""
