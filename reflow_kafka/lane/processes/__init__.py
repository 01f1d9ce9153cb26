"""Handlers that compute, in processes of their own (``run_in="process"``).

    engine                                        process
    pool.Processes ── member.Member ──sockets──►  main.main
                           │                         │
                           └──── wire.Progress ──────┘   what runs there now, in shared memory

Imported by the processes themselves, so nothing is imported here that they do not need.
"""
