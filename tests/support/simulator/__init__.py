"""A deterministic simulator: coordinators, owners, ingests, deletions, replicas and restores over one store.

All run in one process. Every call of the store, the clock, a lock and the lease is a point at which another task may
go on, and a process may freeze or die. All choices come from one seed, so a history that goes wrong is run again from
its seed, and shrunk.
"""
