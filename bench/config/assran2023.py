"""The methods that Assran et al. 2023 ("The Hidden Uniform Cluster Prior", ICLR 2023) compare, in the order of rows.

Which methods are compared with which is the paper's choice and no property of a method, so it is written down here.
"""

JOINT_EMBEDDING = ("simclr", "vicreg", "msn")
ANY_PRIOR = "pmsn"  # the method that the paper proposes: MSN with any prior over clusters
MASKED_IMAGE = ("mae", "data2vec")
METHODS = (*JOINT_EMBEDDING, ANY_PRIOR, *MASKED_IMAGE)
