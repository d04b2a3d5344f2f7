"""Copy a model folder with every weight multiplied by 1 + fraction * noise: a fault that no start-up check can see.

Runs inside the engine's interpreter (torch, safetensors), never in raybench's own process:

    python perturb_weights.py FOLDER OUT FRACTION
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main():
    source, out, fraction = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shutil.copytree(source, out)
    for path in sorted(out.glob("*.safetensors")):
        weights = {
            name: (tensor.float() * (1 + fraction * torch.randn(tensor.shape))).to(tensor.dtype)
            for name, tensor in load_file(path).items()
        }
        save_file(weights, path, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
