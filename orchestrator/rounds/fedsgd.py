"""FedSGD: one gradient step a node and round, so that a round is one step of pooled training.

McMahan et al. 2017, section 2. A node's update is its step (minus learning rate times mean gradient over its records),
hence the gateway does what it does for FedAvg; the task sees to the single step.
"""

from orchestrator.rounds.fedavg import FedAvg


class FedSGD(FedAvg):
    pass
