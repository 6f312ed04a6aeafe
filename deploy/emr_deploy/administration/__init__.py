"""A running system changed: hospitals that join and leave, other versions of the contract, revocations.

What is under way stands in a file of EMR_HOME until it is done, so that the same command, run again after a crash, goes
on with it and any other is refused.
"""
