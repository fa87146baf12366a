"""Feature networks that wrap what is there already: CLIP and any module."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pictures import noise_pictures
from unclip.clip import TextImageEncoder
from unclip.errors import InputError
from unclip.evaluation import ClipFeatures, FeatureNetwork, ModuleFeatures
from unclip.images import from_uint8, to_pil
