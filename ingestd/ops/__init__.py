"""What an operator sees: metrics, health, the HTTP endpoint, logs.

In: counts and states of the parts.
Out: pages, log lines, notifications to systemd.
"""
