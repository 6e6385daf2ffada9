"""The only interface to the running kernel: procfs, memory of other processes, stops, remote calls, unwinding."""
