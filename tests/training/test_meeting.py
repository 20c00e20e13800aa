"""What processes that train together agree upon, where it is read some steps later, as on a GPU."""

import torch
import torch.distributed as dist

from ranks import on_ranks
from tiny import runtime
from whymask.training.device import make_fabric
from whymask.training.stopping import LAG, Asked, Meeting


def meet() -> None:
    """Of two processes the second is told to stop in step 3, and the first one's clock asks to read in step 7."""
    LAG["cpu"] = 2
    fabric = make_fabric(runtime())
    meeting, found = Meeting(fabric), []
    for step in range(12):
        asked = Asked(stop=fabric.global_rank == 1 and step == 3, save=fabric.global_rank == 1, read=step == 7)
        means = meeting.means({"loss": torch.tensor(float(fabric.global_rank + step))}, lambda asked=asked: asked)
        assert means["loss"].item() == step + 0.5
        found.append(meeting.agreed(is_last=step == 11))
    everybody: list[list[Asked]] = [[], []]
    dist.all_gather_object(everybody, found)
    assert everybody[0] == everybody[1]
    expected = {5: Asked(stop=True), 9: Asked(read=True)}  # and the second one's clock does not count
    assert found == [expected.get(step, Asked()) for step in range(12)]


def test_all_do_the_same_after_the_same_step_though_it_is_read_later() -> None:
    assert on_ranks(2, meet) == [0, 0]


def open_to_the_last() -> None:
    LAG["cpu"] = 5
    fabric = make_fabric(runtime())
    meeting = Meeting(fabric)
    for step in range(3):
        meeting.means({"loss": torch.tensor(1.0)}, lambda: Asked(stop=True))
        assert meeting.agreed(is_last=step == 2) == Asked(stop=step == 2)


def test_nothing_is_left_open_after_the_last_step() -> None:
    assert on_ranks(2, open_to_the_last) == [0, 0]
