"""The methods that Assran et al. 2023 ("The Hidden Uniform Cluster Prior", ICLR 2023) compare, in table order.

The paper chose which methods to compare with which. That is not a property of a method, so it is written down here.
"""

JOINT_EMBEDDING = ("simclr", "vicreg", "msn")
ANY_PRIOR = "pmsn"  # the method that the paper proposes: MSN with an arbitrary prior over clusters
MASKED_IMAGE = ("mae", "data2vec")
METHODS = (*JOINT_EMBEDDING, ANY_PRIOR, *MASKED_IMAGE)
