import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: bit-equality holds for one number of threads
