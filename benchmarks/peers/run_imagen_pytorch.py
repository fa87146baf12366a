"""The worker that measures imagen-pytorch with its own trainer. Runs in that peer's environment."""

import torch
import transformers
from protocol import Task, Work, serve

# At import it looks up the width of a T5 on the hub, even for text that is embedded already.
T5_WIDTH = 768


def main() -> None:
    """Serve the driver."""
    serve(build, ("imagen-pytorch", "torchvision"))


def build(task: Task) -> Work:
    """Build what the task names; raises `KeyError` for a kind that is not there."""
    return {"decoder_train": train}[task.kind](task)


def train(task: Task) -> Work:
    """A step of their trainer: loss, gradients, Adam, moving average."""
    transformers.T5Config.from_pretrained = staticmethod(lambda name: transformers.T5Config(d_model=T5_WIDTH))
    from imagen_pytorch import BaseUnet64, Imagen, ImagenTrainer

    settings = task.settings
    unet = BaseUnet64(**settings["unet"])
    imagen = Imagen(unets=(unet,), **settings["imagen"])
    trainer = ImagenTrainer(imagen, max_grad_norm=1.0, accelerate_cpu=task.device == "cpu").to(task.device)
    size, count = settings["imagen"]["image_sizes"], settings["batch_size"]
    pictures = torch.rand(count, 3, size, size).to(task.device)
    text = torch.randn(count, settings["num_text_tokens"], T5_WIDTH).to(task.device)

    def step() -> None:
        trainer(pictures, text_embeds=text, unet_number=1)
        trainer.update(unet_number=1)

    return Work(step, (trainer.imagen.unets,))


if __name__ == "__main__":
    main()
