"""`make demo`: a real candidate judged on real model servers, on one machine and within minutes.

Nothing imports it. It uses `modelcanary run` as a user would, as a process, and knows nothing of its inside.
"""
