"""Stock FFCV. It has neither hue, grey nor blur, so it makes the crops and flips alone, one decode a view."""

import numpy as np
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline import PipelineSpec
from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage

from bench.peers.job import Job


class FFCV:
    note = "crops and flips alone"

    def __init__(self, job: Job) -> None:
        self.job = job

    def first_batch(self) -> None:
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
            indices=np.arange(job.images),
            pipelines=pipelines,
            drop_last=True,
        )
        self.one_pass()  # stopping early would leave its thread and its buffers behind

    def one_pass(self) -> None:
        for _ in self.loader:
            pass
