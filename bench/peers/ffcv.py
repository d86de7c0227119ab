"""Stock FFCV. It has no hue jitter, grayscale or blur, so it makes only crops and flips, and decodes once per view.

FFCV begins each epoch with fresh buffers, whose memory is touched for the first time: in passes of four batches it
takes two fifths more CPU time per image than in passes of sixteen. Users' epochs are long, so its passes are long, too.
"""

import math
from collections.abc import Iterator

from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline import PipelineSpec
from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from torchvision.datasets import ImageFolder

from twoview.bench.peers.job import ConvertJob, Job

BATCHES = 16  # smallest number of batches in an epoch


class FFCV:
    """Contestant that loads with FFCV's loader."""

    note = "crops and flips only"

    def __init__(self, job: Job) -> None:
        passes = math.ceil(BATCHES * job.batch / job.images)
        self.job = job.model_copy(update={"images": passes * job.images})

    def make(self) -> None:
        job = self.job
        pipelines = {"image": None, "label": [IntDecoder(), ToTensor()]}  # the views replace the image
        for number, view in enumerate(job.view_tuple()):
            if view.scale is None:
                raise ValueError("the ffcv peer makes views with random crops only, got a view without")
            decoder = RandomResizedCropRGBImageDecoder((view.size, view.size), view.scale, view.ratio)
            ops = [RandomHorizontalFlip(view.flip), ToTensor(), ToTorchImage()]
            pipelines[f"view{number}"] = PipelineSpec("image", decoder=decoder, transforms=ops)
        self.loader = Loader(
            str(job.beton),
            batch_size=job.batch,
            num_workers=job.threads,
            os_cache=True,
            order=OrderOption.RANDOM,
            indices=job.indices(),
            pipelines=pipelines,
            drop_last=True,
        )

    def one_pass(self) -> Iterator[object]:
        yield from self.loader


class Writer:
    """Contestant that writes a beton file. RGBImageField takes pixels, so JPEGs are decoded and compressed again."""

    note = "decodes and compresses again"

    def __init__(self, job: ConvertJob) -> None:
        self.job = job

    def make(self) -> None:
        pass

    def one_pass(self) -> Iterator[object]:
        fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
        path = self.job.folder.with_suffix(".ffcv")
        writer = DatasetWriter(str(path), fields, num_workers=self.job.threads)
        writer.from_indexed_dataset(ImageFolder(self.job.folder))
        yield path
