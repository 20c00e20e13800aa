"""`python -m experiments.scaling`: what large pretraining costs, by measured rates; docs/scaling.md has the table.

Arithmetic alone: each rate stands here with where it was measured, and nothing is said of what was not.
"""

from dataclasses import dataclass

STEP, LOOP = 5_271, 3_607
"""Images a second of mae on vit_base_patch16_224, batch 256, bf16-mixed, on one NVIDIA H100: the step alone, images on
the GPU already, and the whole loop from a decoded store, of which 23 % is waiting (before batches were made ahead)."""
STEP_BATCH = 256
DECODED, ENCODED = 256 * 256 * 3, 23_800
"""Bytes of a stored image, 256 x 256 in colour; encoded the mean of 200 photos of clothing-small."""
BUILDING, FROM_DECODED, FROM_ENCODED = 212, 855, 493
"""Images a second and core of an Intel Xeon (clothing-small): decoded, hashed and stored from photos of 400 to 888
pixels; crops of 224 pixels from a decoded and an encoded store (`python -m benchmarks photos`)."""
PARAMETERS = 93_488_640
"""Of that network with its decoder of 384 x 4; the gradient of each is averaged over GPUs at each step, in float32."""
KEY, HASH = 97, 32
"""Bytes of an image's key in memory (a path of 45 letters, as Python holds it) and of its hash."""
NEAR_PAIRS = 80_000 * 20_000 / 38
"""Pairs of images compared for near copies a second (100,000 images of 110 pixels, a fifth of them test images)."""
CORES = 16


@dataclass(frozen=True)
class Plan:
    """A pretraining: how many images, seen how often, and how many of them are tested on later."""

    name: str
    images: float
    epochs: int
    tested: float

    def rows(self) -> list[tuple[str, str]]:
        seen = self.images * self.epochs
        wire = 2 * 4 * PARAMETERS / (STEP_BATCH / STEP)  # a ring sends and gets nearly twice the gradients
        return [
            ("images that are seen", f"{seen:.3g}"),
            ("hours of one H100, at the step's rate", f"{seen / STEP / 3600:,.0f}"),
            ("hours of one H100, at the loop's rate", f"{seen / LOOP / 3600:,.0f}"),
            ("store, decoded", f"{self.images * DECODED / 1e9:,.0f} GB"),
            ("store, encoded", f"{self.images * ENCODED / 1e9:,.0f} GB"),
            (f"hours to build it on {CORES} cores", f"{self.images / BUILDING / CORES / 3600:,.1f}"),
            ("cores that feed one H100 from the decoded store", f"{STEP / FROM_DECODED:.0f}"),
            ("the same from the encoded store", f"{STEP / FROM_ENCODED:.0f}"),
            ("bytes a second and GPU between many of them", f"{wire / 1e9:.0f} GB/s"),
            ("memory of keys and hashes, a process", f"{self.images * (KEY + HASH) / 1e9:,.1f} GB"),
            (
                f"hours to compare all with {self.tested:,.0f} test images for near copies",
                f"{self.images * self.tested / NEAR_PAIRS / 3600:,.1f}",
            ),
        ]


PLANS = (Plan("ImageNet-1k, 800 epochs", 1_281_167, 800, 50_000), Plan("100 M images, 10 epochs", 1e8, 10, 50_000))


def table() -> str:
    """Markdown, a row a cost and a column a plan."""
    columns = [plan.rows() for plan in PLANS]
    lines = [f"| | {' | '.join(plan.name for plan in PLANS)} |", f"| --- |{' ---: |' * len(PLANS)}"]
    for row in zip(*columns, strict=True):
        lines.append(f"| {row[0][0]} | {' | '.join(value for _, value in row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
