"""Every network is traced by torch.compile as one graph, in a process without the checks of annotations."""

import subprocess
import sys

PROGRAM = """
import torch
from unclip.models import Autoencoder, Decoder, Prior, Upsampler
from unclip.models import autoencoder_preset, decoder_preset, prior_preset, upsampler_preset

def one_graph(network, *args):
    compiled = torch.compile(network.eval(), fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*args), network(*args), rtol=0, atol=1e-5)

time, embedding, mask = torch.tensor([3.0, 700.0]), torch.randn(2, 32), torch.arange(16) < torch.tensor([[5], [16]])
hidden, present = torch.randn(2, 16, 32), torch.tensor([True, False])
prior = Prior(prior_preset("tiny"))
one_graph(prior, embedding, time, embedding, hidden, mask)
one_graph(prior, embedding, time, None, None, mask, prior.text_cache(embedding, hidden, mask).detach())
decoder = Decoder(decoder_preset("tiny").replace(text_dim=32))
one_graph(decoder, torch.randn(2, 3, 16, 16), time, embedding, present, embedding, hidden, mask)
one_graph(Upsampler(upsampler_preset("tiny")), torch.randn(2, 3, 32, 32), time, torch.rand(2, 3, 8, 8))
one_graph(Autoencoder(autoencoder_preset("tiny")), torch.randn(2, 3, 16, 16))
"""


def test_every_network_is_one_graph() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=300)
