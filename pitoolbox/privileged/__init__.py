"""The only code that changes owners, groups and modes: a process with four capabilities.

It reads orders, one JSON object a line, from standard input and answers on standard output; it
opens no file but those of the trees it is sent to, no socket and no database, and imports only
the standard library. Who sends the orders is not believed: everything in them is checked here
again, against the name service, the file system and the policy that is its only argument.

Every object is reached by directory descriptors below the pinned root of a project, is judged by
what its own descriptor says, and is changed through that same descriptor. What is about to be
changed is told first, and changed when the other side answers that it has written it down.
"""
