"""The worker that measures dalle2-pytorch with its own trainers and sampling loops. Runs in that peer's environment."""

from collections.abc import Callable
from typing import Any

import torch
from dalle2_pytorch import Decoder, DecoderTrainer, DiffusionPrior, DiffusionPriorNetwork, DiffusionPriorTrainer, Unet
from protocol import Task, Work, serve
from torch import Tensor


def main() -> None:
    """Serve the driver."""
    serve(build, ("dalle2-pytorch", "torchvision"))


def build(task: Task) -> Work:
    """Build what the task names; raises `KeyError` for a kind that is not there."""
    kinds: dict[str, Callable[[Task], Work]] = {
        "prior_train": prior_train,
        "prior_sample": prior_sample,
        "decoder_train": decoder_train,
        "decoder_sample": decoder_sample,
        "image": image,
    }
    return kinds[task.kind](task)


def make_prior(task: Task) -> Any:
    """A prior of random weights."""
    settings = task.settings
    net = DiffusionPriorNetwork(**settings["net"])
    return DiffusionPrior(net=net, **settings["prior"]).to(task.device)


def make_decoder(task: Task) -> Any:
    """A decoder of random weights."""
    settings = task.settings
    unet = Unet(**settings["unet"])
    steps = settings.get("decoder_steps")
    return Decoder(unet=unet, sample_timesteps=steps, **settings["decoder"]).to(task.device)


def prior_train(task: Task) -> Work:
    """A step of their trainer: loss, gradients, AdamW, moving average."""
    prior, settings = make_prior(task), task.settings
    trainer = DiffusionPriorTrainer(prior, accelerator_cpu=task.device == "cpu", max_grad_norm=1.0)
    width, length = settings["prior"]["image_embed_dim"], settings.get("num_text_tokens", 0)
    given = {"text_embed": rows(task, width)}
    if length:
        given["text_encodings"] = rows(task, length, width)
    pictures = rows(task, width)

    def step() -> None:
        # They scale the embeddings in place.
        trainer(image_embed=pictures.clone(), **given)
        trainer.update()

    return Work(step, (prior.net,))


def prior_sample(task: Task) -> Work:
    """A whole sample without guidance."""
    prior = make_prior(task).eval()
    return Work(lambda: draw_embeddings(prior, task), (prior.net,))


def draw_embeddings(prior: Any, task: Task) -> Tensor:
    """Image embeddings. n of their steps evaluate the network n - 1 times, so they are asked for one more."""
    text = rows(task, prior.image_embed_dim)
    return prior.p_sample_loop(
        text.shape, text_cond={"text_embed": text}, cond_scale=1.0, timesteps=task.settings["prior_steps"] + 1
    )


def decoder_train(task: Task) -> Work:
    """A step of their trainer."""
    decoder, settings = make_decoder(task), task.settings
    trainer = DecoderTrainer(decoder, accelerator=accelerator(task), max_grad_norm=1.0)
    size, width = settings["decoder"]["image_size"], settings["unet"]["image_embed_dim"]
    pictures, embeddings = torch.rand(settings["batch_size"], 3, size, size).to(task.device), rows(task, width)

    def step() -> None:
        trainer(pictures, image_embed=embeddings, unet_number=1)
        trainer.update(1)

    return Work(step, (decoder.unets,))


def decoder_sample(task: Task) -> Work:
    """A whole picture."""
    decoder = make_decoder(task).eval()
    width = task.settings["unet"]["image_embed_dim"]
    return Work(lambda: draw_pictures(decoder, rows(task, width), task), (decoder.unets,))


def draw_pictures(decoder: Any, embedding: Tensor, task: Task) -> Tensor:
    """Pictures of embeddings."""
    return decoder.sample(
        image_embed=embedding, cond_scale=task.settings["guidance_scale"], one_unet_in_gpu_at_time=False
    )


def image(task: Task) -> Work:
    """Prior and decoder, one after the other."""
    prior, decoder = make_prior(task).eval(), make_decoder(task).eval()
    return Work(lambda: draw_pictures(decoder, draw_embeddings(prior, task), task), (prior.net, decoder.unets))


def accelerator(task: Task) -> Any:
    """What their trainer trains with."""
    from accelerate import Accelerator

    return Accelerator(cpu=task.device == "cpu")


def rows(task: Task, *sizes: int) -> Tensor:
    """Random numbers, a row a sample."""
    return torch.randn(task.settings["batch_size"], *sizes).to(task.device)


if __name__ == "__main__":
    main()
