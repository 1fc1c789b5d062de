"""Conversations: which calls belong together, where nobody says so.

collector.domain.stitching   the decision itself, pure, used by the sidecar at admission
memory                       what a stitcher should know after a restart, from records or rows
"""
