"""The model card: README.md beside exported weights, as the hubs read it."""

import json
import re
from glob import has_magic
from pathlib import Path
from typing import Any

from whymask.data.preprocessing import GREY
from whymask.disk import printable, read_json, write_bytes
from whymask.exports.network import Exported
from whymask.exports.to_timm import is_plain, licence_of
from whymask.report.text import plural
from whymask.runs import version_of
from whymask.stages.detect import Detector
from whymask.stages.segment import Segmenter
from whymask.stages.settings import SCRATCH
from whymask.stages.taken import data_of, seen_texts
from whymask.tasks import TASKS

NOT_NAMED = "(not named)"
LIBRARIES = {"timm": "timm", "transformers": "transformers", "onnx": "onnx", "safetensors": "whymask"}


def write_card(what: Exported, to: str, opening: str, folder: Path) -> None:
    """README.md in `folder`; `opening` is the code that opens it, with {folder} for where it lies."""
    sections = [
        f"# {what.title}",
        summary(what, (folder / "decoder.safetensors").exists() or "ViTMAE" in opening),
        "## Opening it",
        f"```python\n{opening.replace('{folder}', '.')}```\n\n(`.` is this folder.) {seeing(what)}",
        *differing(what, opening),
        "## Training",
        training(what),
        "## Numbers",
        numbers(what),
        "## Licence",
        licence(what),
        f"Written by whymask {version_of('whymask') or '(a version that nothing tells)'}.",
    ]
    write_bytes(folder / "README.md", (front_matter(what, to) + "\n\n".join(sections) + "\n").encode())


def front_matter(what: Exported, to: str) -> str:
    pipelines = {"labels": "image-classification", "maps": "image-segmentation", "boxes": "object-detection"}
    pipeline = pipelines[what.task.targets] if what.task else "image-feature-extraction"
    tags = ["whymask", "masked-image-modeling", *([what.task.name] if what.task else [])]
    about = {
        **(licence_of(what) or {"license": "other", "license_name": "yours-to-choose"}),
        "library_name": LIBRARIES[to],
        "pipeline_tag": pipeline,  # of numbers too: transformers' pipeline of that name reads the problem's type
        "tags": [*tags, what.encoder.timm_name],
    }
    lines = [f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in about.items()]
    return "\n".join(["---", *lines, "---", "", ""])


def summary(what: Exported, with_decoder: bool) -> str:
    encoder = what.encoder
    height, width = encoder.size
    decoder = f", with the decoder of {what.method_name}" if with_decoder else ""
    text = (
        f"{'A' if what.task else 'An'} {what.kind}: `{encoder.timm_name}` for images of {height}x{width} pixels and "
        f"{encoder.channels} channels, features of width {encoder.dim}{decoder}."
    )
    if what.task is None:
        return text
    names = f"{what.task.names_are.capitalize()}: {', '.join(map(in_markdown, what.labels))}. " if what.names else ""
    return f"{text}\n\n{names}{what.task.outputs.reading}"


def seeing(what: Exported) -> str:
    prep = what.encoder.transform
    mean, std = (", ".join(f"{value:.4f}" for value in moments) for moments in (prep.mean, prep.std))
    how = (
        f"the longer side), with grey ({GREY} of 255) at the right and below"
        if prep.pads
        else f"the shorter side, then the middle), cropped to {prep.size[0]}x{prep.size[1]}"
    )
    text = (
        f"Raw images are resized to {prep.store[0]}x{prep.store[1]} pixels ({prep.interpolation}, antialiased; {how}, "
        f"brought to 0 to 1, and normalised by mean ({mean}) and standard deviation ({std})."
    )
    if prep.alpha == "white":
        text += " Transparent images are laid on white before that."
    if isinstance(what.placing, Segmenter):
        text += (
            " That is a middle of the image: `whymask predict` sees the whole of it at this scale, by windows of that "
            "size that overlap by half, takes the mean of their logits, brings it bilinearly to the image's own size, "
            "and then the class with the largest."
        )
    if isinstance(what.placing, Detector):
        text += (
            " What torchvision's network gives is a dict for each image, whose boxes are in pixels that it sees, and "
            f"whose labels are the classes, counted from {what.placing.first_class}."
        )
    if not is_plain(what):
        text += (
            f" Pillow's images cannot be these: {prep.channels} channels, raw values {prep.low:g} to {prep.high:g}. "
            "Give the network normalised arrays."
        )
    return text


def differing(what: Exported, opening: str) -> list[str]:
    """In what the network is not what its name makes one expect."""
    encoder = what.encoder
    said = [f"Mind: {note}." for note in encoder.config.notes(encoder.size)]
    stride = encoder.timm_kwargs.get("output_stride")
    if stride is not None:
        said.append(
            f"This stride was derived from the images' size, or asked for: a {encoder.timm_name} that is built without "
            f"`output_stride={stride}`, such as torchvision's, has a stride of 32, takes the same weights, and makes "
            "other features of an image."
        )
    if "ViTMAE" in opening and what.method is not None:
        config: Any = what.method.config
        said.append(
            f"Each call draws a new mask, which hides {share_of(config.mask_ratio)} of the patches, and `.logits` are "
            "the decoder's guesses at all of them: two calls differ. Whole images are seen by "
            '`ViTMAEModel.from_pretrained(".", mask_ratio=0.0)`; its patches come in an order that is drawn too, and '
            "the mean of `.last_hidden_state[:, 1:]` over them is the same each time."
        )
    return [" ".join(said)] if said else []


def share_of(ratio: float | tuple[float, float]) -> str:
    """ "a share of 0.75", or of a range the middle, which is what transformers draws with."""
    return f"a share of {ratio if isinstance(ratio, float) else sum(ratio) / 2:g}"


def training(what: Exported) -> str:
    data, record = data_of(what.source), what.record
    rows = []
    if data:
        name = named(data["name"]) if what.names else NOT_NAMED
        rows.append(f"data: {name}, {data['images']:,} images, fingerprint `{data['fingerprint']}`")
        pool, distinct = data["pool"], data.get("distinct", data["pool"])
        different = f" ({distinct:,} different ones)" if distinct < pool else ""
        rows.append(
            f"{pool:,} images to pretrain on{different}, {data['train']:,} labelled ones, {data['test']:,} to test"
        )
    method = what.method_name or record.method
    if method:
        rows.append(f"pretraining: {method}{listed(record.method_settings or {})}")
    trained = what.result.get("training") or record.training
    if trained:
        rows.append(f"{'fine-tuning' if what.task else 'optimisation'}: {listed(trained).strip(' ()')}")
    if record.stage == "finetune" and what.study is None and what.names:
        rows.append(f"started from: {record.origin or SCRATCH}")
    return "\n".join(f"- {row}" for row in rows)


def numbers(what: Exported) -> str:
    if what.study is not None:
        return of_study(read_json(what.study / "study.json"), what)
    result = what.result
    if what.task is None:
        shown = [key for key in ("loss", "steps", "images_seen") if key in result]
        return "\n".join(f"- {key.replace('_', ' ')}: {result[key]:,.6g}" for key in shown)
    titles = {key: what.task.describe(key).title for key in result["metrics"]}
    rows = "\n".join(f"| {titles[key]} | {value:.4f} |" for key, value in result["metrics"].items())
    tests = "On the test images, from one run; one run has no interval over seeds."
    return f"| metric | value |\n| --- | ---: |\n{rows}\n\n{tests}"


def of_study(study: dict[str, Any], what: Exported) -> str:
    """The verdict, and every arm's mean with its 95 % interval over seeds."""
    task = TASKS[study["data"].get("task", "classification")]()  # of an encoder's study too
    metric = study["verdict"]["metric"]
    title = task.describe(metric).title
    lines = [
        " ".join([study["verdict"]["text"], *seen_texts(study)]),
        "",
        f"| arm | {task.budget_counts} | {title} | 95 % over seeds |",
    ]
    lines.append("| --- | ---: | ---: | --- |")
    for level in study["levels"]:
        if level["metric"] == metric:
            low, high = level["low"], level["high"]
            seeds = plural(level["seeds"], "seed")
            interval = f"none, {seeds}" if low is None else f"{low:.3f} to {high:.3f}, {seeds}"
            lines.append(f"| {level['arm']} | {level['labels_per_class']:g} | {level['mean']:.3f} | {interval} |")
    own = what.result.get("metrics")
    if own:
        about = f"{what.source.name}, trained on {what.result['labelled_images']:,} labelled images"
        lines += ["", f"This network, {about}: {title} {own[metric]:.4f}."]
    return "\n".join(lines)


def licence(what: Exported) -> str:
    if what.encoder.origin:
        return f"The weights began as: {what.encoder.origin if what.names else licence_line(what)}."
    return "Trained from new weights: the licence is the choice of whoever trained it, and of its images' owner."


def licence_line(what: Exported) -> str:
    return (what.encoder.origin or "").partition("; ")[2] or "somebody else's weights"


def named(data: str) -> str:
    """What a user gave as images, "photos/ + /home/me/labelled", by the last part of each path, "photos + labelled"; a
    pattern with the folder before it."""
    parts = [Path(part) for part in data.split(" + ")]
    names = ["/".join(path.parts[-2:]) if has_magic(path.name) else path.name for path in parts]
    return " + ".join(in_markdown(name) if name else NOT_NAMED for name in names)


def in_markdown(name: str) -> str:
    """A name that is text wherever a card is shown."""
    return re.sub(r"([<`|\[\]])", r"\\\1", printable(name))


def listed(settings: dict[str, Any]) -> str:
    shown = [f"{key} {value}" for key, value in settings.items() if value not in (None, "", 0.0)]
    return f" ({', '.join(shown)})" if shown else ""
