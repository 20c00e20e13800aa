"""What a source of images holds, before anything is made of it: `whymask data`."""
