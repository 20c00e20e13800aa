"""For which programs networks are written."""

from typing import Literal

Target = Literal["timm", "transformers", "onnx", "safetensors"]
