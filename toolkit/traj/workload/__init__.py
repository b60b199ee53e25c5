"""What a harness is to send: a dataset's trajectories under the options of an export."""
