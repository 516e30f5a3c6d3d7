"""Whom the cases set upon each other: processes are told apart by what runs them (`wrap` of Lab.start, or the first words of a
command)."""

ALICE, BOB, MALLORY = 64001, 64002, 64003  # users without privileges, of whom no file knows


def as_user(number):
    return ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", "--"]


def as_namespace_root(number):
    """Root, and nothing but root, of a user namespace that `number` made; outside it is that user."""
    return [*as_user(number), "unshare", "--user", "--map-root-user", "--"]


def in_own_network(number):
    """The same, with a network namespace in which nothing is but what it makes."""
    return [*as_user(number), "unshare", "--user", "--map-root-user", "--net", "--"]
