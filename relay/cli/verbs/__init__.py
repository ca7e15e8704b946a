"""What each verb does, a module for each subject.

Every function named in relay/cli/main.py takes what was typed and returns an exit code or raises Stop. What it prints is made
in the modules beside this package, which are pure.
"""
