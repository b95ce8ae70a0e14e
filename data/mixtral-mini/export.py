"""Write a training checkpoint as the model folder: ``python data/mixtral-mini/export.py --run DIR [--out DIR]``."""

import argparse
from pathlib import Path

import torch
from train import CONFIG

import mixtral_probe as mp

HERE = Path(__file__).parent


def main() -> None:
    """Read the checkpoint, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the folder train.py wrote to")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    state = torch.load(options.run / "checkpoint.pt", weights_only=True)
    model = mp.MixtralForCausalLM(mp.MixtralConfig(**CONFIG))
    model.load_state_dict(state["model"])
    model.save_pretrained(options.out, dtype="bfloat16", max_shard_size=None)
    print(f"step {state['step']}: {options.out / 'model.safetensors'}")


if __name__ == "__main__":
    main()
