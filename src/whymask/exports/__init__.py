"""Trained networks for other programs: timm, transformers, ONNX, or safetensors alone, each with a model card."""
