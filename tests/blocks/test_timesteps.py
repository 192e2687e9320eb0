"""Times as waves; the equation stands in the chapter on the U-Net, and is tested there."""

import torch
from diffusers.models.embeddings import get_timestep_embedding

from nnlib.blocks.timesteps import timestep_embedding
from tests.support import refuses


def test_it_is_that_of_diffusers():
    t = torch.tensor([0.0, 3.0, 250.5, 999.0])
    wanted = get_timestep_embedding(t, 32, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(timestep_embedding(t, 32), wanted, rtol=1e-5, atol=1e-5)


def test_an_odd_width_is_refused():
    with refuses(ValueError, "embed_dim=3"):
        timestep_embedding(torch.zeros(2), 3)
