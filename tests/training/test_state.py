"""What each option does to the steps of a training, seen on a network and batches that cost nothing."""

import copy
import warnings

import pytest
import torch
from torch import nn

from dalipipe.errors import ConfigError, DivergedError, ResourceError, StateError
from dalipipe.training.config import TrainConfig
from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.network.blocks import Blocks, parameter_groups
from dalipipe.training.network.models import create_model, head_names
from dalipipe.training.network.optim import rate
from dalipipe.training.observer import Observer
from dalipipe.training.run.learning import learn, train_epoch
from dalipipe.training.run.state import TrainState


class Batches:
    """Stands in for a loader: the same batches in every epoch."""

    def __init__(self, count=4, size=4, names=()):
        generator = torch.Generator().manual_seed(1)
        labels = torch.tensor([0, 1] * (size // 2))
        shift = labels[:, None, None, None]
        self.batches = [(torch.randn(size, 3, 6, 5, generator=generator) + shift, labels) for _ in range(count)]
        self.source = self
        self.classes = ("left", "right")
        self.last_indices = [0, 2]
        self.epoch = None

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)

    def name(self, index):
        return f"photo {index}.png"

    def set_epoch(self, epoch):
        self.epoch = epoch

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


METRICS = EpochMetrics(1, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5, 0.1, 0.01, 10.0, 0.1)


def network():
    """Two blocks, each a convolution with its norm, and a head."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3)
    blocks = (first, nn.BatchNorm2d(4), nn.ReLU(), second, nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def start(model=None, batches=None, **options):
    plain = {"lr": 0.1, "schedule": "constant", "weight_decay": 0, "epochs": 9}
    cfg = TrainConfig(**{**plain, **options})
    return TrainState(cfg, model or network(), batches or Batches())


def go(state, epochs=1):
    for _ in range(epochs):
        state.begin_epoch()
        train_epoch(state, Observer())
        state.end_epoch(METRICS)
    return state


def moved(before, after):
    """Return the names of the tensors that differ."""
    return {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before.state_dict()[name])}


FIRST, SECOND, HEAD = {"0", "1"}, {"3", "4"}, {"8"}


def modules(names):
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("freeze", "free"), [("none", FIRST | SECOND | HEAD), ("1", SECOND | HEAD), ("2", HEAD), ("backbone", HEAD)]
)
def test_what_is_frozen_does_not_move_and_its_batch_norm_stands_still(freeze, free):
    state = start(freeze=freeze, weight_decay=0.1)
    before = copy.deepcopy(state.model)
    go(state)
    assert modules(moved(before, state.model)) == free


@pytest.mark.parametrize(("unfreeze", "frozen"), [("all", [2, 2, 0, 0, 0]), ("gradual", [2, 2, 1, 0, 0])])
def test_what_was_frozen_is_freed_in_its_epoch(unfreeze, frozen):
    state = start(freeze="backbone", unfreeze_at=3, unfreeze=unfreeze)
    for expected in frozen:
        before = copy.deepcopy(state.model)
        go(state)
        assert modules(moved(before, state.model)) == {2: HEAD, 1: SECOND | HEAD, 0: FIRST | SECOND | HEAD}[expected]


def test_more_blocks_than_there_are_cannot_be_frozen():
    with pytest.raises(ConfigError, match="--freeze: must be at most the 2 blocks of resnet18, got 3"):
        start(freeze=3)


def step_sizes(**options):
    """Return how far the weights of each block move in a first step, by the name of the module."""
    state = start(batches=Batches(1), momentum=0, **options)
    before = {name: tensor.clone() for name, tensor in state.model.named_parameters()}
    go(state)
    return {name: (tensor - before[name]).norm().item() for name, tensor in state.model.named_parameters()}


def test_backbone_and_blocks_have_learning_rates_of_their_own():
    usual = step_sizes()
    slow = step_sizes(backbone_lr_factor=0.1)
    steps = step_sizes(backbone_lr_factor=0.5, layer_decay=0.2)
    assert slow["8.weight"] == pytest.approx(usual["8.weight"], rel=1e-3)
    assert slow["0.weight"] == pytest.approx(0.1 * usual["0.weight"], rel=1e-3)
    assert steps["3.weight"] == pytest.approx(0.5 * usual["3.weight"], rel=1e-3)
    assert steps["0.weight"] == pytest.approx(0.1 * usual["0.weight"], rel=1e-3)


def test_weights_decay_and_biases_and_norms_do_not():
    state = start(weight_decay=0.5, momentum=0)
    before = {name: tensor.clone() for name, tensor in state.model.named_parameters()}
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    for name, tensor in state.model.named_parameters():
        factor = 0.95 if name in ("0.weight", "3.weight", "8.weight") else 1.0
        assert torch.allclose(tensor, factor * before[name]), name


@pytest.mark.parametrize(
    ("name", "rests"),
    [
        ("vit_b_32", {"class_token", "encoder.pos_embedding"}),
        ("swin_t", {"features.1.0.attn.relative_position_bias_table"}),
        ("convnext_tiny", {"features.1.0.layer_scale"}),
        ("timm/test_vit", {"cls_token", "pos_embed"}),
        (
            "timm/swinv2_tiny_window8_256",
            {"layers.0.blocks.0.attn.logit_scale", "layers.0.blocks.0.attn.cpb_mlp.0.weight"},
        ),
    ],
)
def test_tokens_positions_tables_and_scales_do_not_decay(name, rests):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = create_model(name, 3)
    groups = parameter_groups(model, Blocks.of(model, head_names(model)), TrainConfig(weight_decay=0.5))
    decaying = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    named = dict(model.named_parameters())
    assert rests <= set(named)
    assert not {key for key in rests if id(named[key]) in decaying}
    dense = [f"{key}.weight" for key, module in model.named_modules() if type(module) in (nn.Linear, nn.Conv2d)]
    rest = {key for key in dense if id(named[key]) not in decaying}
    assert all("cpb_mlp" in key for key in rest)


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_the_rate_of_an_epoch_is_that_of_its_last_step(schedule):
    state = start(schedule=schedule, epochs=2, step_epochs=1, warmup_epochs=0.5)
    for _ in range(2):
        used = []
        noted = state.optimizer.register_step_pre_hook(
            lambda made, *_, used=used: used.append(made.param_groups[0]["lr"])
        )
        go(state)
        noted.remove()
        assert state.last_lr == pytest.approx(used[-1])
        assert state.last_lr > 0


def end_of(**options):
    return go(start(**options)).model.state_dict()["8.weight"]


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "adamw"}, {"nesterov": False}, {"momentum": 0.5}, {"label_smoothing": 0.2}, {"mixup": 0.4},
     {"cutmix": 1.0}, {"schedule": "cosine"}, {"warmup_epochs": 1}, {"clip_norm": 0.01}, {"precision": "bf16"}],
)  # fmt: skip
def test_the_option_changes_what_is_learnt_and_nothing_else_does(options):
    assert torch.equal(end_of(), end_of())
    assert not torch.equal(end_of(), end_of(**options))


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_the_one_named(name, kind):
    assert isinstance(start(optimizer=name).optimizer, kind)


def course(**options):
    cfg = TrainConfig(epochs=4, **options)
    return [round(rate(cfg, epochs, 0.5), 4) for epochs in (0, 0.5, 1, 2, 3, 4)]


def test_the_learning_rate_follows_its_schedule():
    assert course(schedule="constant") == [1] * 6
    assert course(schedule="cosine") == [1, 0.9619, 0.8536, 0.5, 0.1464, 0]
    assert course(schedule="step", step_epochs=2, step_factor=0.1) == [1, 1, 1, 0.1, 0.1, 0.01]
    assert course(schedule="constant", warmup_epochs=2) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert course(schedule="cosine", warmup_epochs=2) == [0.25, 0.5, 0.75, 1, 0.5, 0]


def test_the_schedule_counts_steps_of_the_optimizer():
    state = go(start(schedule="cosine", epochs=2, accumulate=3), epochs=2)  # 4 batches: steps of 3 and of 1
    assert state.schedule.last_epoch == 4
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_gathered_gradients_are_those_of_one_large_batch():
    def linear():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(90, 2))

    parts, whole = Batches(2), Batches(1)
    whole.batches = [tuple(torch.cat(both) for both in zip(*parts.batches, strict=True))]
    one = go(start(linear(), whole))
    two = go(start(linear(), parts, accumulate=2))
    assert torch.allclose(one.model[1].weight, two.model[1].weight, atol=1e-6)
    assert not torch.allclose(one.model[1].weight, go(start(linear(), parts)).model[1].weight, atol=1e-4)


def test_gradients_are_clipped():
    sizes = step_sizes(clip_norm=0.01)
    assert sum(size**2 for size in sizes.values()) ** 0.5 == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_the_average_differs_from_the_weights_and_is_what_is_kept():
    state = go(start(ema=0.9), epochs=2)
    assert state.network is not state.model
    assert not torch.equal(state.network[8].weight, state.model[8].weight)
    assert not torch.equal(state.network[1].running_mean, state.model[1].running_mean)
    assert go(start()).network[8] is not None


def test_the_average_is_the_weights_in_the_past():
    state = start(ema=0.9, batches=Batches(2))
    seen = []
    state.begin_epoch()
    for images, labels in state.loader:
        learn(state, images, labels, "here")
        seen.append(state.model[8].weight.detach().clone())
    decay = 2 / 11  # the second step's, early in the run
    assert torch.allclose(state.network[8].weight, decay * seen[0] + (1 - decay) * seen[1])


def test_labels_are_mixed_with_the_images():
    state = start(mixup=0.4, cutmix=1.0)
    seen = []
    state.criterion.register_forward_hook(lambda module, arguments, loss: seen.append(arguments[1]))
    go(state)
    assert all(target.shape == (4, 2) for target in seen)
    assert any(((target > 0.01) & (target < 0.99)).any() for target in seen)
    assert all(torch.allclose(target.sum(dim=1), torch.ones(4)) for target in seen)


def test_the_network_computes_in_the_precision_asked_for():
    state, seen = start(precision="bf16"), []
    state.model[0].register_forward_hook(lambda module, arguments, output: seen.append(output.dtype))
    go(state)
    assert set(seen) == {torch.bfloat16}
    assert state.model[0].weight.dtype == torch.float32


def test_the_network_is_compiled_on_request_and_saved_as_it_is(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda model: lambda images: (calls.append(1), model(images))[1])
    state = go(start(compile=True))
    assert len(calls) == 4
    assert "8.weight" in state.network.state_dict()
    go(start())
    assert len(calls) == 4


def test_a_class_that_weighs_more_moves_the_network_its_way():
    def share_of_left(weights):
        state = TrainState(TrainConfig(lr=0.1), network(), Batches(), weights)
        images = torch.cat([images for images, _ in state.loader])
        go(state, epochs=3).model.eval()
        return state.model(images).softmax(dim=1)[:, 0].mean().item()

    assert share_of_left(torch.tensor([9.0, 0.1])) > share_of_left(None) > share_of_left(torch.tensor([0.1, 9.0]))


@pytest.mark.parametrize("at", [(0, 2), (1, 1)])
def test_a_state_goes_on_exactly_where_it_was_taken(at):
    options = {"ema": 0.9, "optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 1, "freeze": 1,
               "unfreeze_at": 2, "mixup": 0.3}  # fmt: skip
    whole = go(start(**options), epochs=3)
    state = go(start(**options), epochs=at[0])
    state.begin_epoch()
    for images, labels in state.loader.batches[: at[1]]:
        learn(state, images, labels, "here")
    saved = copy.deepcopy(state.state_dict())

    other = start(**options)
    other.model.load_state_dict(network().state_dict())
    other.load_state_dict(saved)
    every = other.loader.batches
    other.loader.batches = Batches().batches
    rest, other.loader.batches = every[at[1] :], every
    other.begin_epoch()
    for images, labels in rest:
        learn(other, images, labels, "here")
    assert other.tally.images == 16
    other.end_epoch(METRICS)
    go(other, epochs=3 - other.epoch)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name


# ------------------------------------------------------------------------------------------------- what can go wrong


def test_a_nan_is_reported_with_its_batch_and_its_files_and_moves_nothing():
    state = start()
    state.epoch = 1
    state.loader.batches[2][0][0, 0, 0, 0] = float("nan")
    with pytest.raises(DivergedError) as caught:
        go(state)
    assert str(caught.value).startswith("epoch 2, batch 3: the loss must be a finite number, got nan.")
    assert "'photo 0.png', 'photo 2.png'" in str(caught.value)
    assert "Lower --lr" in str(caught.value)
    assert all(parameter.isfinite().all() for parameter in state.model.parameters())


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("[...] DefaultCPUAllocator: can't")],
)
def test_memory_that_does_not_suffice_says_what_to_lower(error):
    state = start()

    def fail(images):
        raise error

    state.forward = fail
    with pytest.raises(ResourceError, match=r"epoch 1, batch 1: needs more memory.*--batch-size \(now 8.*bf16"):
        go(state)


def test_other_mistakes_are_not_taken_for_a_lack_of_memory():
    state = start(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        go(state)


@pytest.mark.parametrize("key", ["history", "model", "optimizer", "rng", "stopper", "tally"])
def test_a_state_with_wrong_content_is_refused_and_not_taken_for_one(key):
    state = start().state_dict()
    for broken in ({**state, key: 3}, {name: part for name, part in state.items() if name != key}):
        with pytest.raises(StateError, match="begin in another output"):
            start().load_state_dict(broken)
    start().load_state_dict(state)
