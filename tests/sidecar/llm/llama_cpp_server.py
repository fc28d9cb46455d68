"""llama.cpp's own server, by its package xllamacpp, run in its environment: the model's file, its name, the port."""

import sys
import threading

import xllamacpp

model, name, port = sys.argv[1:]
parameters = xllamacpp.CommonParams()
parameters.model.path = model
parameters.model_alias = name
parameters.port = int(port)
parameters.n_ctx = 512
parameters.cpuparams.n_threads = 1
server = xllamacpp.Server(parameters)
threading.Event().wait()
