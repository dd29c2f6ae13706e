"""Write the golden files from the PyTorch oracle: ``python -m tests.oracles.make_golden``.

tests/golden/<case>.safetensors holds, for each case of `cases.py`, the weights, the batch, and PyTorch's logits, loss
and gradients, in float64 rounded to float32; tests/golden/<case>.json holds ten losses of ten AdamW steps in float32.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from dist_llm.baselines.torch_llama import TorchLlama, torch_adamw
from dist_llm.optim.schedule import learning_rate
from tests.oracles.cases import CASES, OPTIM, STEPS, VOCAB, case_batch, case_model

GOLDEN = Path(__file__).parent.parent / "golden"


def load_weights(torch_model: TorchLlama, params) -> None:
    state = {p.name: torch.from_numpy(np.array(p.data)) for p in params}
    torch_model.load_state_dict(state, strict=True)


def torch_results(name: str, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """The oracle's loss, logits and gradients for the weights and the batch of a case."""
    oracle = TorchLlama(CASES[name], VOCAB).to(dtype)
    load_weights(oracle, case_model(name).params)
    tokens, targets = (torch.from_numpy(a).long() for a in case_batch())
    loss = oracle.loss(tokens, targets)
    loss.backward()
    results = {f"grad.{n}": p.grad.numpy() for n, p in oracle.named_parameters()}
    return results | {"loss": loss.detach().numpy(), "logits": oracle(tokens).detach().numpy()}


def torch_losses(name: str) -> list[float]:
    """The oracle's losses in ten steps of training, each on its own batch."""
    oracle = TorchLlama(CASES[name], VOCAB)
    load_weights(oracle, case_model(name).params)
    optimizer = torch_adamw(oracle, OPTIM)
    losses = []
    for step in range(STEPS):
        tokens, targets = (torch.from_numpy(a).long() for a in case_batch(step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, STEPS, OPTIM)
        optimizer.zero_grad()
        loss = oracle.loss(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(oracle.parameters(), OPTIM.grad_clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        tokens, targets = case_batch()
        arrays = {f"weight.{p.name}": np.array(p.data) for p in case_model(name).params}
        arrays |= {k: v.astype(np.float32) for k, v in torch_results(name, torch.float64).items()}
        save_file(
            arrays | {"tokens": np.array(tokens), "targets": np.array(targets)},
            GOLDEN / f"{name}.safetensors",
        )
        losses = {"torch": torch.__version__.split("+")[0], "losses": torch_losses(name)}
        (GOLDEN / f"{name}.json").write_text(json.dumps(losses, indent=1) + "\n")


if __name__ == "__main__":
    main()
