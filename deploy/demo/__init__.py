"""The main job, on real input, through the same doors as everybody: REST for the team, the device plane for phones."""
