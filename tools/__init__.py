"""Build-time helpers shared by setup.py, build_ffi.py, the tests and CI. Never imported by the installed package."""
