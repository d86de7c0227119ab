"""The methods that Assran et al. 2023 ("The Hidden Uniform Cluster Prior", ICLR 2023) compare, in the order of rows.

Which of them the paper sets against which is the paper's choice, so it stands here, and is no trait of a method.
"""

JOINT_EMBEDDING = ("simclr", "vicreg", "msn")
ANY_PRIOR = "pmsn"  # the paper's own
MASKED_IMAGE = ("mae", "data2vec")
METHODS = (*JOINT_EMBEDDING, ANY_PRIOR, *MASKED_IMAGE)
