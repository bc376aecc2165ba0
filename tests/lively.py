"""Networks that nobody trained, and that yet say something."""

import torch

from stylematch.settings.train_model import Model
from stylematch.vision.networks import Network


def lively(backbone, schema, embedding_dim, input_px, **more):
    """Return a network with random weights and statistics, whose answers differ from picture to picture."""
    torch.manual_seed(3)
    network = Network(Model(backbone=backbone, input_px=input_px, embedding_dim=embedding_dim, **more), schema)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics are those of the one batch that follows
    seen = torch.rand(16, network.channels, 7, 7).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.no_grad():
        name = schema.groups[0].name
        logits, head = network.outputs(seen)[1][name], network.heads[name]
        spread = logits.std(0) / 2  # random features hardly differ; the labels shall
        head.bias.copy_((head.bias - logits.mean(0)) / spread)
        head.weight /= spread[:, None]
    return network.eval()
