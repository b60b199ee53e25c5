"""Publishing: a dataset to the Hugging Face Hub, and back.

publication  the whole way: plan, refuse or send, load back
plan         every file of a repository, before anything is sent
licences     which licences permit it
refusals     why not: the dataset          exposure   why not: what would be seen
card         the card and what belongs to it, made from the data
hub          the Hub's library, its errors as one line
upload       one commit, one tag           fetch      a dataset from the Hub
load_back    holds what was published against the local dataset, with each of the clients
"""

from __future__ import annotations

from traj.publish.publication import PublishOptions, PublishReport, publish

__all__ = ["PublishOptions", "PublishReport", "publish"]
