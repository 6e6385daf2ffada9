"""Whether the machine is well: probes, commands around a run, crashes."""
