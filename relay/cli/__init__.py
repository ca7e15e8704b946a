"""The command line: `relay VERB …`.

`parser` says what can be typed, `verbs` does it, `door` reaches the daemon (or its spool while it is down), `show` turns
answers into lines for people. Nothing heavy is imported before a verb needs it, so that a command starts fast.
Exit codes (sysexits): 0 ok, 64 usage, 65 bad input, 66 no such file or entry, 69 service not available, 70 bug,
74 the output cannot be written, 75 try later, 77 permission, 78 configuration.
"""
