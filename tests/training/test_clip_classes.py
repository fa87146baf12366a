"""Classes beside CLIP's contrast, and the teacher that assigns phrases to them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from short_runs import ALONE, changed, first_batch, loss, steps
from tiny_bert import write_tiny_bert
from unclip.checkpoint import LazyTensor
from unclip.clip import SentenceEncoder, TextImageEncoder, contrastive_loss
from unclip.data import PictureSet, ShardSet, cache_beside, read_groups
from unclip.errors import ConfigError, DataError
from unclip.training import Feed, Task, TrainConfig, make_task
from unclip.training.tasks.phrases import Classes, Phrases


@pytest.fixture(scope="module")
def clip(tiny_recipe: Callable[[str], TrainConfig]) -> TrainConfig:
    config = changed(tiny_recipe("emoji/clip"), max_shift=0.0, max_rotation=0.0, degrade_prob=0.0)
    return changed(config, balance=[], positives=[], classes=[], class_texts=[])


def test_classes_add_the_cross_entropy_of_pictures_and_captions_by_prototypes(clip: TrainConfig) -> None:
    config = changed(clip, classes=["group"])
    task = make_task(config, ALONE.device)
    batch, network = first_batch(config, task), task.build()
    info = ShardSet.open(clip.data.folder).info
    names = [info(int(index))["group"] for index in Feed(task.samples, config, ALONE).request(0).indices]
    assert batch["class"].tolist() == [sorted_groups(task, info).index(name) for name in names]
    rows = task.forward(network, batch)
    prototypes = F.normalize(network.prototypes, dim=1)
    scale = network.class_scale.exp()
    assert scale.item() == pytest.approx(20.0)
    expected = contrastive_loss(rows["image"], rows["text"], network.clip.logit_scale)
    for name in ("image", "text"):
        logits = scale * F.normalize(rows[name], dim=1) @ prototypes.T
        expected = expected + logits.logsumexp(dim=1).mean() - logits[range(len(logits)), batch["class"]].mean()
    torch.testing.assert_close(loss(task, network, batch).loss, expected)


def sorted_groups(task: Task, info: Callable[[int], dict[str, object]]) -> list[str]:
    """The group of each class, in the classes' order."""
    classes = task.samples.classes.tolist()
    return [info(classes.index(number))["group"] for number in range(max(classes) + 1)]


def test_class_weight_multiplies_the_losses_of_classes(clip: TrainConfig) -> None:
    plain, *others = (
        steps(changed(clip, **options), 1).losses[0]
        for options in (
            {},
            {"classes": ["group"], "class_weight": 0.0},
            {"classes": ["group"]},
            {"classes": ["group"], "class_weight": 3.0},
        )
    )
    assert others[0] == pytest.approx(plain, rel=1e-6)
    assert others[2] - plain == pytest.approx(3 * (others[1] - plain), rel=1e-5)


def test_prototypes_are_not_exported(clip: TrainConfig, tmp_path: Path) -> None:
    config = changed(clip, classes=["group"])
    task = make_task(config, ALONE.device)
    network = task.build()
    assert {"prototypes", "class_scale"} < network.state_dict().keys()
    task.export({name: LazyTensor.of(tensor) for name, tensor in network.state_dict().items()}, tmp_path)
    exported = TextImageEncoder.load(tmp_path).clip.state_dict()
    names = network.state_dict().keys() - {"prototypes", "class_scale"}
    assert {f"clip.{name}" for name in exported} == names


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    write_tiny_bert(folder)
    return folder


def test_a_teacher_assigns_phrases_and_texts_to_classes(clip: TrainConfig, teacher: Path, tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("a cat on a mat\n\n  red dog \n")
    config = changed(clip, classes=["label"], teacher=str(teacher), phrases=str(phrases))
    task = make_task(config, ALONE.device)
    known, classes = task.samples.phrases, task.samples.classes
    assert {"a cat on a mat", "red dog"} < set(known.texts)
    pictures = task.samples.source
    labels = {int(row): ShardSet.open(clip.data.folder).info(index)["label"] for index, row in enumerate(classes)}
    assert set(labels.values()) < set(known.texts)
    assert {caption for index in range(len(pictures)) for caption in pictures.captions(index)} < set(known.texts)
    torch.testing.assert_close(known.probs.sum(dim=1), torch.ones(len(known.texts)))
    # By hand: the mean of the similarities to the name and to the nearest text, over a temperature.
    encode = SentenceEncoder.load(teacher).encode
    phrase = encode(["red dog"]).half().float()[0]
    similarity = []
    for row, label in sorted(labels.items()):
        texts = {label} | {c for i, one in enumerate(classes) if one == row for c in pictures.captions(i)}
        vectors = encode(sorted(texts)).half().float()
        name = encode([label]).half().float()[0]
        similarity.append(((vectors @ phrase).max() + name @ phrase) / 2)
    probs = (torch.stack(similarity) / 0.04).softmax(dim=0)
    row = known.texts.index("red dog")
    torch.testing.assert_close(known.probs[row], probs[known.classes[row].long()], atol=1e-4, rtol=1e-3)


def test_phrases_add_their_cross_entropy_with_the_teachers_classes(clip: TrainConfig, teacher: Path) -> None:
    config = changed(clip, classes=["group"], teacher=str(teacher))
    task = make_task(config, ALONE.device)
    batch, network = first_batch(config, task), task.build()
    assert len(batch["phrase_ids"]) == len(batch["images"])
    rows = {name: tensor.detach() for name, tensor in task.forward(network, batch).items()}
    report = loss(task, network, batch)
    prototypes = F.normalize(network.prototypes.detach(), dim=1)
    logs = (20.0 * F.normalize(rows["phrase"], dim=1) @ prototypes.T).log_softmax(dim=1)
    expected = [
        -sum(float(p) * float(log[int(c)]) for p, c in zip(probs, classes, strict=True))
        for log, probs, classes in zip(logs, batch["phrase_probs"], batch["phrase_classes"], strict=True)
    ]
    assert report.metrics["phrase_class_loss"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    whole, parts = steps(config, 3), steps(changed(config, micro_batch_size=2), 3)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)


def test_class_texts_are_read_by_the_teacher(clip: TrainConfig, teacher: Path) -> None:
    plain, tagged = (
        make_task(changed(clip, classes=["label"], teacher=str(teacher), class_texts=fields), ALONE.device)
        for fields in ([], ["tags"])
    )
    info = ShardSet.open(clip.data.folder).info
    tags = {tag for index in range(len(plain.samples.source)) for tag in info(index)["tags"]}
    pictures = plain.samples.source
    captions = {caption for index in range(len(pictures)) for caption in pictures.captions(index)}
    labels = {info(index)["label"] for index in range(len(pictures))}
    assert set(plain.samples.phrases.texts) <= captions | labels
    texts = set(tagged.samples.phrases.texts)
    assert labels <= texts <= captions | labels | tags
    # A class keeps the shortest of its texts, which are tags rather than captions.
    assert len(texts & tags - captions - labels) > len(labels)


def test_embeddings_of_the_teacher_are_kept_beside_the_shards(clip: TrainConfig, teacher: Path) -> None:
    config = changed(clip, classes=["label"], teacher=str(teacher))
    make_task(config, ALONE.device)
    kept = {path: path.stat().st_mtime_ns for path in Path(clip.data.folder).glob("teacher-*.npy")}
    assert kept
    make_task(config, ALONE.device)
    assert {path: path.stat().st_mtime_ns for path in Path(clip.data.folder).glob("teacher-*.npy")} == kept


def test_a_teacher_without_classes_and_phrases_without_a_teacher_are_refused(clip: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"^task\.teacher=here assigns phrases to classes, .*=\[\]; set"):
        changed(clip, teacher="here")
    with pytest.raises(ConfigError, match=r"^task\.phrases=emoji needs a teacher; set task\.teacher="):
        changed(clip, phrases="emoji")
    with pytest.raises(DataError, match=r"^task\.phrases=nowhere cannot be read .*; give a text file, or emoji"):
        make_task(changed(clip, classes=["label"], teacher="here", phrases="nowhere"), ALONE.device)


def test_paraphrases_are_phrases_of_the_pictures_class(
    tiny_recipe: Callable[[str], TrainConfig], teacher: Path, tmp_path: Path
) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("\n".join(f"phrase number {number}" for number in range(40)))
    paraphrases = {"classes": ["label"], "teacher": str(teacher), "phrases": str(phrases)}
    limits = {"min_prob": 0.08, "max_count": 4}
    config = changed(tiny_recipe("emoji/prior"), paraphrases=paraphrases | limits)
    task = make_task(config, ALONE.device)
    pictures = task.samples.source
    plain = pictures.pictures
    known = Phrases.open(config.task.paraphrases, str(teacher), classes_of(config, plain), cache_folder(config))
    for index in range(len(plain)):
        added = pictures.captions(index)[len(plain.captions(index)) :]
        assert pictures.item(index).captions == pictures.captions(index)
        rows = [known.texts.index(text) for text in added]
        probs = known.probs[rows, 0]
        assert len(added) <= 4
        assert all(text.startswith("phrase number") for text in added), "captions say what is so of one picture alone"
        assert (probs >= 0.08).all()
        assert (known.classes[rows, 0] == pictures.classes[index]).all()
        assert probs.tolist() == sorted(probs.tolist(), reverse=True)
    assert sum(map(len, pictures.phrases)) > 0
    # Any of them may be the caption of a step.
    number = int(torch.tensor([len(texts) for texts in pictures.phrases]).argmax())
    index = pictures.classes.tolist().index(number)
    last = len(pictures.captions(index)) - 1
    batch = task.samples.texts([index], [pictures.captions(index)], [last])
    assert batch["text_length"].item() > 2


def classes_of(config: TrainConfig, pictures: PictureSet) -> Classes:
    """The classes that the paraphrases of a run go by."""
    settings = config.task.paraphrases
    groups = read_groups(config.data.folder, settings.classes, pictures.keys, "task.paraphrases.classes")
    return Classes.read(config.data, settings, pictures, groups)


def cache_folder(config: TrainConfig) -> Path:
    """Where what a teacher says about the shards is kept."""
    return cache_beside(config.data.folder)


def test_paraphrases_without_captions_to_add_them_to_are_refused(
    tiny_recipe: Callable[[str], TrainConfig], teacher: Path
) -> None:
    paraphrases = {"classes": ["label"], "teacher": str(teacher)}
    config = tiny_recipe("emoji/decoder")
    silent = changed(config, paraphrases=paraphrases, model=config.task.model.replace(text_dim=0))
    with pytest.raises(ConfigError, match=r"this decoder reads none \(text_dim=0"):
        make_task(silent, ALONE.device)
    with pytest.raises(ConfigError, match="classes"):
        changed(config, paraphrases=paraphrases | {"classes": []})
