"""Draw what leading principal components of a picture's embedding hold, and fit those components."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Annotated, Unpack

import torch

from unclip.errors import InputError
from unclip.model.basis import EmbeddingBasis
from unclip.pictures import Picture, open_pictures
from unclip.pipelines.features import chunk_size, encode
from unclip.pipelines.job import begin
from unclip.pipelines.model import Model
from unclip.pipelines.options import DrawOptions, Option, task
from unclip.pipelines.result import Result


# Section 4 of unCLIP.
@task(is_series=True)
def probe(
    model: Model,
    image: Annotated[Picture, Option("The picture to look into.", "picture")],
    num_components: Annotated[Sequence[int] | None, Option("How many to keep: 1,4,16; else 1, 2, 4 up to all.")] = None,
    *,
    basis: Annotated[EmbeddingBasis | None, Option("A file of `unclip basis`; else the model's own.", "basis")] = None,
    **options: Unpack[DrawOptions],
) -> Result:
    """Draw what the leading principal components of a picture's embedding hold (paper, section 4).

    One picture for each of `num_components`, all from the same noise; None is 1, 2, 4 and so on up to all of them,
    which is `image_variations` to rounding. `basis` is by default the model's own, where it comes with one. Raises
    `InputError` for a number outside 1..CLIP's embedding size, and where there is no basis or one of another size.
    """
    (picture,), basis, size = open_pictures(image), basis or model.basis, model.need_clip.embedding_dim
    if basis is None:
        raise InputError(
            f"the model {model.name!r} has no basis of its image embeddings; give one, made by UnClip.fit_basis or "
            "`unclip basis PICTURES`."
        )
    if basis.embedding_dim != size:
        raise InputError(f"the basis is of {basis.embedding_dim} numbers and CLIP's embeddings of {size}; fit another.")
    doubling = [*(1 << power for power in range((size - 1).bit_length())), size]
    counts = doubling if num_components is None else list(num_components)
    for count in counts:
        basis.check(count)
    job = begin(model, options, num_inputs=len(counts))
    features = encode(model, [""] * len(counts), [picture])
    kept = torch.cat([basis.keep(features.pictures, count) for count in counts])
    embeddings = [kept[batch.rows] for batch in job.batches]
    images = job.draw(embeddings, features.condition)
    return job.result(images, embeddings, features.cut, num_components=counts)


@task()
def fit_basis(
    model: Model, pictures: Annotated[Iterable[Picture], Option("The pictures to fit.", "picture")]
) -> EmbeddingBasis:
    """Fit the principal components of the embeddings of `pictures`, for `probe`; best of thousands of them.

    Pictures are taken from the iterable a few at a time. Raises `InputError` for fewer than 2.
    """
    clip, decoder, rest = model.need_clip, model.need_decoder, iter(pictures)
    embeddings = [torch.empty(0, clip.embedding_dim)]
    with model.resident(clip):
        while chunk := list(islice(rest, chunk_size(model))):
            embeddings.append(decoder.from_clip(clip.encode_pictures(open_pictures(chunk))).cpu())
    return EmbeddingBasis.fit(torch.cat(embeddings))
