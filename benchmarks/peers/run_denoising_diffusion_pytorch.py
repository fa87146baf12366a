"""The worker that measures denoising-diffusion-pytorch. Runs in that peer's environment."""

import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from ema_pytorch import EMA
from protocol import Task, Work, serve

IMAGE_SIZE = 64


def main() -> None:
    """Serve the driver."""
    serve(build, ("denoising-diffusion-pytorch", "torchvision"))


def build(task: Task) -> Work:
    """Build what the task names; raises `KeyError` for a kind that is not there."""
    return {"decoder_train": train, "decoder_sample": sample}[task.kind](task)


def make_diffusion(task: Task) -> GaussianDiffusion:
    """A U-Net of random weights; fused attention, which ours has too, is asked for."""
    unet = Unet(flash_attn=True, **task.settings["unet"])
    steps = task.settings.get("decoder_steps")
    return GaussianDiffusion(unet, image_size=IMAGE_SIZE, sampling_timesteps=steps).to(task.device)


def train(task: Task) -> Work:
    """The step of their `Trainer`, which itself takes nothing but a folder of pictures."""
    diffusion = make_diffusion(task)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average = EMA(diffusion, beta=0.995, update_every=10).to(task.device)
    pictures = torch.rand(task.settings["batch_size"], 3, IMAGE_SIZE, IMAGE_SIZE).to(task.device)

    def step() -> None:
        diffusion(pictures).backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()

    return Work(step, (diffusion.model,))


def sample(task: Task) -> Work:
    """Whole pictures by DDIM."""
    diffusion = make_diffusion(task).eval()
    return Work(lambda: diffusion.sample(batch_size=task.settings["batch_size"]), (diffusion.model,))


if __name__ == "__main__":
    main()
