"""Treatments: remedies as transformations of a training, replays of it, and what they prove.

treat.py    which remedies are tried, in which order, and when to stop
plan.py     a training as values: network, rows, loss, optimizer, learning-rate schedule
network.py, output.py, course.py, rows.py   remedies: plan -> plan and the line to change
replay.py   train a plan once and measure it; compare.py: what replays over seeds prove
crew.py     replays in other processes; worker.py: such a process
"""
