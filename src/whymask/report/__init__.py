"""The kit of every page: one self-contained file, figures, small pictures, texts, and the hiding of names."""
