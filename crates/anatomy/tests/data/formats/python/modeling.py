"""A model."""
import torch


class Model(torch.nn.Module):
    pass
