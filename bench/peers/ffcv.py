"""Stock FFCV. It has neither hue, gray nor blur, so it makes the crops and flips alone, one decode a view.

An epoch begins with fresh buffers, whose memory is touched for the first time: in passes of four batches it takes two
fifths more processor time an image than in passes of sixteen. A user's epochs are long, so its passes are too.
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

BATCHES = 16  # of an epoch, at least


class FFCV:
    note = "crops and flips alone"

    def __init__(self, job: Job) -> None:
        passes = math.ceil(BATCHES * job.batch / job.images)
        self.job = job.model_copy(update={"images": passes * job.images})

    def make(self) -> None:
        job = self.job
        pipelines = {"image": None, "label": [IntDecoder(), ToTensor()]}  # the views take the place of the image
        for number, view in enumerate(job.view_tuple()):
            if view.scale is None:
                raise ValueError("the ffcv peer makes random crops only")
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
    """RGBImageField takes pixels, so every JPEG is decoded and compressed again: it has no pass-through."""

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
