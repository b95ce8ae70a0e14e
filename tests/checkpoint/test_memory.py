import subprocess
import sys
from pathlib import Path

import pytest

from mixtral_probe import MixtralConfig, MixtralForCausalLM
from tests.support.models import TOY

PEAK = """
import sys
from pathlib import Path
from mixtral_probe import MixtralConfig, MixtralForCausalLM

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

fields, folder, layout = eval(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
small = MixtralForCausalLM(MixtralConfig(**fields | {"hidden_size": 8, "intermediate_size": 8}))
small.save_pretrained(folder / "small", layout=layout)
MixtralForCausalLM.from_pretrained(folder / "small")
start = peak()
model = MixtralForCausalLM.from_pretrained(folder / "big")
loaded = peak()
model.save_pretrained(folder / "again", layout=layout, max_shard_size=None)
print(loaded - start, peak() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("layout", ["classic", "fused"])
def test_weights_are_never_held_twice(tmp_path, layout):
    """Reading takes the weights once and the pages of one layer's files; writing takes no more than that."""
    fields = TOY | {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 12, "num_local_experts": 8}
    model = MixtralForCausalLM(MixtralConfig(**fields))
    model.save_pretrained(tmp_path / "big", layout=layout, max_shard_size=None)
    size = sum(4 * weight.numel() for weight in model.parameters())
    assert size > 70e6
    command = [sys.executable, "-c", PEAK, repr(fields), str(tmp_path), layout]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert all(growth < 1.3 * size for growth in map(int, done.stdout.split())), (done.stdout, size)
