"""What a run leaves behind: its directory, configuration, checkpoints and measurements, as plain numbers."""
