"""Beton files with faults."""

from twoview.loaders.beton import JPEG, Stored, open_beton, write


def damaged_beton(photographs, path, damaged, count=24):
    """The first photographs, rewritten so that the checksums match, with some of the JPEGs cut in half."""

    def sample(index):
        start, size = int(photographs.pointers[index]), int(photographs.sizes[index])
        content = photographs.file[start : start + (size // 2 if index in damaged else size)].tobytes()
        shape = int(photographs.heights[index]), int(photographs.widths[index])
        return Stored(JPEG, *shape, content, 100 + index)

    for _ in write(path, count, sample):
        pass
    return open_beton(path)
