import pytest

from dist_llm.config import ModelConfig


def test_rotary_tables_change_nothing():
    torch = pytest.importorskip("torch")
    from dist_llm.baselines.torch_llama import RotaryTables, apply_rope

    config = ModelConfig(dim=24, n_heads=3, max_seq_len=9)
    x = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(RotaryTables(config)(x, config.rope_theta), apply_rope(x, config.rope_theta))
