#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does `muster quantize` choose the format of every tensor as llama.cpp does, and does llama.cpp load what it writes?

usage: quantize_oracle.py LIBRARIES MUSTER MODEL.gguf...    LIBRARIES: the folder of llama.cpp's shared libraries

Exits 1 when a tensor's format differs or a model does not load."""

import ctypes
import json
import pathlib
import re
import subprocess
import sys
import tempfile

# Mixtures, with llama.h's numbers (llama_ftype); Q2_K_S would need an importance matrix there.
TARGETS = {"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
           "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18,
           "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32, "MXFP4_MOE": 38}
LINE = re.compile(r"^\[ *\d+/ *\d+\] +(\S+) .*type = *(\w+)(?:, *.*?converting to +(\w+))?", re.M)
LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class QuantizeParams(ctypes.Structure):
    """llama_model_quantize_params: its first members, and room for the others."""
    _fields_ = [("threads", ctypes.c_int32), ("ftype", ctypes.c_int32), ("output_type", ctypes.c_int32),
                ("embedding_type", ctypes.c_int32), ("allow_requantize", ctypes.c_bool), ("rest", ctypes.c_uint8 * 239)]


class ModelParams(ctypes.Structure):
    """llama_model_params, passed on as llama.cpp filled it."""
    _fields_ = [("all", ctypes.c_uint64 * 64)]


class Llama:
    def __init__(self, folder):
        find = lambda stem: next(iter(sorted(folder.glob(stem + "*.so"))))
        ctypes.CDLL(str(find("libggml-base")), mode=ctypes.RTLD_GLOBAL)
        ggml = ctypes.CDLL(str(find("libggml.")), mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(find("libllama.")))
        self.log = []
        self.callback = LOG(lambda level, text, data: self.log.append(text.decode(errors="replace")))
        self.library.llama_log_set(self.callback, None)
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        self.library.llama_model_quantize_default_params.restype = QuantizeParams
        self.library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(QuantizeParams)]
        self.library.llama_model_default_params.restype = ModelParams
        self.library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParams]
        self.library.llama_model_load_from_file.restype = ctypes.c_void_p
        self.library.llama_model_free.argtypes = [ctypes.c_void_p]

    def formats(self, source, output, ftype):
        """Formats by tensor of what llama.cpp quantises `source` to."""
        self.log.clear()
        params = self.library.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize = ftype, True
        if self.library.llama_model_quantize(str(source).encode(), str(output).encode(), ctypes.byref(params)) != 0:
            raise RuntimeError("llama.cpp cannot quantise: " + "".join(self.log[-3:]))
        text = re.sub(r"\n(?!\[)", " ", "".join(self.log))
        return {name: (new or old).lower() for name, old, new in LINE.findall(text)}

    def loads(self, path):
        model = self.library.llama_model_load_from_file(str(path).encode(), self.library.llama_model_default_params())
        if model:
            self.library.llama_model_free(model)
        return bool(model)


def compare(llama, muster, model, folder):
    good = True
    for target, ftype in TARGETS.items():
        ours = folder / "ours.gguf"
        out = subprocess.run([muster, "quantize", str(model), str(ours), target, "--allow-requantize", "--json"],
                             check=True, stdout=subprocess.PIPE).stdout
        chosen = {t["name"]: t["to"] for t in json.loads(out)["tensors"]}
        theirs = llama.formats(model, folder / "theirs.gguf", ftype)
        for name in sorted(chosen.keys() | theirs.keys()):
            if chosen.get(name) != theirs.get(name):
                print(f"{model.name} {target}: {name} is {chosen.get(name)}, llama.cpp's {theirs.get(name)}")
                good = False
        if not llama.loads(ours):
            print(f"{model.name} {target}: llama.cpp does not load it: {''.join(llama.log[-3:])}")
            good = False
    return good


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    llama = Llama(pathlib.Path(sys.argv[1]))
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for model in sys.argv[3:]:
            good &= compare(llama, sys.argv[2], pathlib.Path(model), pathlib.Path(folder))
    print(f"quantised models: {len(TARGETS)} mixtures of {len(sys.argv) - 3} models, "
          + ("formats as llama.cpp's, which loads them" if good else "NOT as llama.cpp's"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
